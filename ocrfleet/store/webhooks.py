"""Webhooks: where a tenant is told of what has ended, with what secret, and whether that still goes well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID, uuid4

from sqlalchemy import RowMapping, text, update
from sqlalchemy.orm import Session

from ocrfleet import tables
from ocrfleet.errors import NotFound
from ocrfleet.store import audit
from ocrfleet.webhooks import new_secret

TEST = "webhook.test"
EVENTS = ("job.completed", "job.failed", "job.canceled", "export.completed", "export.failed", TEST)
"""What a webhook may ask for; one that asks for the test alone is told only of what names it."""
OLD_SECRET_SECONDS = 24 * 3600
"""For so long the secret before the current one signs too."""
_COLUMNS = """id, url, description, events, secret, enabled, fault, created_at, CASE WHEN previous_secret_until > now() THEN previous_secret_until END AS previous_secret_until,
    CASE WHEN previous_secret_until > now() THEN previous_secret END AS previous_secret"""


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """What a caller asks for; no `events` mean all."""

    url: str
    description: str | None = None
    events: Sequence[str] = ()


class Changes(TypedDict, total=False):
    """What a caller may change of a webhook; what is not named stays."""

    url: str
    description: str | None
    events: Sequence[str]
    enabled: bool


def subject(webhook_id: UUID) -> str:
    """How the audit names a webhook."""
    return f"webhook:{webhook_id}"


def create(
    session: Session, tenant_id: UUID, new: NewWebhook, *, actor: str, webhook_id: UUID | None = None
) -> RowMapping:
    """Add a webhook with a secret of its own, under this id where one is given: nobody may have it."""
    query = f"""
        INSERT INTO webhooks (id, tenant_id, url, description, events, secret)
        VALUES (:id, :tenant, :url, :description, :events, :secret) RETURNING {_COLUMNS}"""
    values = {
        "id": webhook_id or uuid4(),
        "tenant": tenant_id,
        "url": new.url,
        "description": new.description,
        "events": list(new.events),
        "secret": new_secret(),
    }
    row = session.execute(text(query), values).mappings().one()
    audit.record(session, tenant_id, actor, "webhooks.create", subject(row["id"]), url=new.url)
    return row


def find(session: Session, tenant_id: UUID, webhook_id: UUID) -> RowMapping | None:
    """The tenant's webhook, if there is one."""
    query = f"SELECT {_COLUMNS} FROM webhooks WHERE tenant_id = :tenant AND id = :id"
    return session.execute(text(query), {"tenant": tenant_id, "id": webhook_id}).mappings().one_or_none()


def get(session: Session, tenant_id: UUID, webhook_id: UUID) -> RowMapping:
    """The tenant's webhook, or NotFound."""
    row = find(session, tenant_id, webhook_id)
    if row is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return row


def listing(
    session: Session, tenant_id: UUID, *, limit: int, before: tuple[datetime, UUID] | None = None
) -> Sequence[RowMapping]:
    """A tenant's webhooks, newest first, from the one after `before` (created_at, id)."""
    clauses = [f"SELECT {_COLUMNS} FROM webhooks WHERE tenant_id = :tenant"]
    values: dict[str, Any] = {"tenant": tenant_id, "limit": limit}
    if before:
        clauses.append("AND (created_at, id) < (:created_at, :id)")
        values |= {"created_at": before[0], "id": before[1]}
    clauses.append("ORDER BY created_at DESC, id DESC LIMIT :limit")
    return session.execute(text("\n".join(clauses)), values).mappings().all()


def count(session: Session, tenant_id: UUID) -> int:
    """How many the tenant has; no other is made while this transaction lasts."""
    session.execute(text("SELECT 1 FROM tenants WHERE id = :tenant FOR NO KEY UPDATE"), {"tenant": tenant_id})
    query = "SELECT count(*) FROM webhooks WHERE tenant_id = :tenant"
    return session.execute(text(query), {"tenant": tenant_id}).scalar_one()


def missing(session: Session, tenant_id: UUID, webhook_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the ids that are none of the tenant's."""
    if not webhook_ids:
        return set()
    query = "SELECT id FROM webhooks WHERE tenant_id = :tenant AND id = ANY(:ids)"
    found = session.execute(text(query), {"tenant": tenant_id, "ids": list(webhook_ids)}).scalars()
    return set(webhook_ids) - set(found)


def change(
    session: Session, tenant_id: UUID, webhook_id: UUID, changes: Changes, *, actor: str
) -> RowMapping:
    """Change what is named, NotFound. One that is disabled is sent nothing more, one that is enabled has no fault."""
    before = _lock(session, tenant_id, webhook_id)
    new: dict[str, Any] = {name: value for name, value in changes.items() if value != before[name]}
    if new:
        values: Mapping[str, Any] = {**new, **({"fault": None} if new.get("enabled") else {})}
        session.execute(update(tables.webhooks).where(tables.webhooks.c.id == webhook_id).values(**values))
        if new.get("enabled") is False:
            _drop_waiting(session, webhook_id, "the webhook was disabled")
        old = {name: before[name] for name in new}
        audit.record(session, tenant_id, actor, "webhooks.change", subject(webhook_id), before=old, after=new)
    return get(session, tenant_id, webhook_id)


def rotate(session: Session, tenant_id: UUID, webhook_id: UUID, *, actor: str) -> RowMapping:
    """Give it a new secret; the one it had signs too for 24 hours. NotFound."""
    _lock(session, tenant_id, webhook_id)
    query = """
        UPDATE webhooks SET previous_secret = secret, secret = :secret,
               previous_secret_until = now() + make_interval(secs => :seconds)
        WHERE id = :id"""
    values = {"id": webhook_id, "secret": new_secret(), "seconds": OLD_SECRET_SECONDS}
    session.execute(text(query), values)
    audit.record(session, tenant_id, actor, "webhooks.rotate", subject(webhook_id))
    return get(session, tenant_id, webhook_id)


def delete(session: Session, tenant_id: UUID, webhook_id: UUID, *, actor: str) -> None:
    """Take it away with its deliveries; NotFound."""
    query = "DELETE FROM webhooks WHERE tenant_id = :tenant AND id = :id RETURNING url"
    url = session.execute(text(query), {"tenant": tenant_id, "id": webhook_id}).scalar()
    if url is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    audit.record(session, tenant_id, actor, "webhooks.delete", subject(webhook_id), url=url)


def disable(
    session: Session, webhook_id: UUID, fault: str, *, unless_delivered_since: datetime | None = None
) -> bool:
    """Send it nothing more, for a fault of the receiver's. Before its deliveries are locked, never after."""
    query = """
        UPDATE webhooks SET enabled = false, fault = :fault
        WHERE id = :id AND enabled AND (CAST(:since AS timestamptz) IS NULL OR NOT EXISTS (
            SELECT 1 FROM webhook_deliveries d
            WHERE d.webhook_id = webhooks.id AND d.state = 'delivered' AND d.delivered_at > :since))
        RETURNING 1"""
    values = {"id": webhook_id, "fault": fault, "since": unless_delivered_since}
    if session.execute(text(query), values).scalar() is None:
        return False
    _drop_waiting(session, webhook_id, f"the webhook was disabled: {fault}")
    return True


def _lock(session: Session, tenant_id: UUID, webhook_id: UUID) -> RowMapping:
    query = f"SELECT {_COLUMNS} FROM webhooks WHERE tenant_id = :tenant AND id = :id FOR NO KEY UPDATE"
    row = session.execute(text(query), {"tenant": tenant_id, "id": webhook_id}).mappings().one_or_none()
    if row is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return row


def _drop_waiting(session: Session, webhook_id: UUID, error: str) -> None:
    """What is being sent at this moment tells itself how it went."""
    query = """
        UPDATE webhook_deliveries SET state = 'failed', error = :error
        WHERE id IN (
            SELECT id FROM webhook_deliveries
            WHERE webhook_id = :id AND state = 'waiting' AND (leased_until IS NULL OR leased_until <= now())
            ORDER BY id FOR NO KEY UPDATE)"""
    session.execute(text(query), {"id": webhook_id, "error": error})
