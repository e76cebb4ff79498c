"""Bucket events: who may send them, and what they have told, until rules are applied to it (`rolling`)."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ocrfleet.bucket_records import Malformed, Told
from ocrfleet.store import audit
from ocrfleet.store.idempotency import told_once
from ocrfleet.store.notify import WORK, notify
from ocrfleet.tables import bucket_events

_EXPIRED = 5000
"""Rows that one call of `expire` or `drop_deleted` takes away at most."""


@dataclass(frozen=True, slots=True)
class Source:
    """A store that may post events."""

    id: int
    tenant_id: UUID


def create_source(
    session: Session, tenant_id: UUID, name: str, *, actor: str, request_id: UUID | None = None
) -> tuple[RowMapping, str] | None:
    """Add a source; returns it and its token, of which only the SHA-256 is kept. None where the name is taken.

    AnswerNotKept: the same request has made it, and nobody knows its token any more.
    """
    token = f"ocre_{secrets.token_urlsafe(32)}"
    query = """
        INSERT INTO event_sources (tenant_id, name, token_sha256, request_id)
        VALUES (:tenant, :name, :digest, :request) ON CONFLICT DO NOTHING RETURNING id, name, created_at"""
    values = {"tenant": tenant_id, "name": name, "digest": _digest(token), "request": request_id}
    row = session.execute(text(query), values).mappings().one_or_none()
    if row is None:
        query = "SELECT 1 FROM event_sources WHERE tenant_id = :tenant AND request_id = :request"
        if session.execute(text(query), values).scalar():
            raise told_once(f"the event source {name}")
        return None
    audit.record(session, tenant_id, actor, "create_event_source", f"event_source:{name}")
    return row, token


_SOURCES = """
SELECT s.id, s.name, s.created_at,
       (SELECT received_at FROM bucket_events WHERE source_id BETWEEN s.id AND s.id ORDER BY source_id, id DESC LIMIT 1)
           AS last_event_at,
       (SELECT count(*) FROM bucket_events WHERE source_id = s.id AND fault IS NOT NULL) AS quarantined
FROM event_sources s WHERE s.tenant_id = :tenant AND s.deleted_at IS NULL
"""


def sources(
    session: Session, tenant_id: UUID, *, limit: int, before: int | None = None
) -> Sequence[RowMapping]:
    """The tenant's sources, newest first, from the one after `before` (an id).

    Each with when its last event came, and how many stand in quarantine.
    """
    query = f"{_SOURCES} AND s.id < coalesce(:before, s.id + 1) ORDER BY s.id DESC LIMIT :limit"
    values = {"tenant": tenant_id, "before": before, "limit": limit}
    return session.execute(text(query), values).mappings().all()


def delete_source(session: Session, tenant_id: UUID, source_id: int, *, actor: str) -> RowMapping | None:
    """Hide a source with all it has told (`drop_deleted`); returns what it was, None if there is none."""
    values = {"id": source_id, "tenant": tenant_id}
    row = session.execute(text(f"{_SOURCES} AND s.id = :id FOR UPDATE"), values).mappings().one_or_none()
    if row is None:
        return None
    session.execute(text("UPDATE event_sources SET deleted_at = now() WHERE id = :id"), {"id": source_id})
    audit.record(session, tenant_id, actor, "delete_event_source", f"event_source:{row['name']}")
    return row


def authenticate(session: Session, name: str, token: str) -> Source | None:
    """The source of that name whose token it is; tenants may have sources of the same name."""
    query = """
        SELECT id, tenant_id FROM event_sources
        WHERE name = :name AND deleted_at IS NULL AND token_sha256 = :digest"""
    row = session.execute(text(query), {"name": name, "digest": _digest(token)}).one_or_none()
    return None if row is None else Source(row.id, row.tenant_id)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def keep(session: Session, source: Source, found: Sequence[Told | Malformed]) -> int:
    """Keep what a source has told; what it had told before is left as it is. Returns how many were new."""
    # Ascending, so that two requests with the same records never wait for one another.
    rows = sorted(({"source_id": source.id, **_row(one)} for one in found), key=_identity)
    if not rows:
        return 0
    statement = insert(bucket_events).on_conflict_do_nothing().returning(bucket_events.c.id)
    kept = len(session.execute(statement, rows).all())
    if kept:
        notify(session, WORK)
    return kept


def _row(one: Told | Malformed) -> dict[str, Any]:
    told = one if isinstance(one, Told) else None
    return {
        "raw": one.raw,
        "identity": one.identity,
        "bucket": told and told.bucket,
        "key": told and told.key,
        "version_id": told and told.version_id,
        "etag": told and told.etag,
        "sequencer": told and told.order,
        "happened_at": told and told.happened_at,
        "bytes": told and told.size,
        "fault": one.fault if isinstance(one, Malformed) else None,
    }


def _identity(row: dict[str, Any]) -> bytes:
    return row["identity"]


def listing(
    session: Session,
    tenant_id: UUID,
    *,
    limit: int,
    before: int | None = None,
    quarantined: bool | None = None,
) -> Sequence[RowMapping]:
    """The tenant's events, newest first, from the one after `before` (an id); all, or those in quarantine or not."""
    clauses = [] if before is None else ["AND id < :before"]
    if quarantined is not None:
        clauses.append(f"AND fault IS {'NOT ' if quarantined else ''}NULL")
    # BETWEEN, since for an equality the planner may walk along the primary key, past the events of all tenants.
    query = f"""
        SELECT e.id, s.name AS source, e.bucket, e.key, e.version_id, e.etag, e.bytes, e.fault, e.raw, e.received_at,
               e.handled_at
        FROM event_sources s CROSS JOIN LATERAL (
            SELECT * FROM bucket_events WHERE source_id BETWEEN s.id AND s.id {" ".join(clauses)}
            ORDER BY source_id, id DESC LIMIT :limit
        ) e
        WHERE s.tenant_id = :tenant AND s.deleted_at IS NULL ORDER BY e.id DESC LIMIT :limit"""
    values = {"tenant": tenant_id, "limit": limit, "before": before}
    return session.execute(text(query), values).mappings().all()


def expire(session: Session, seconds: float) -> int:
    """Forget events that are older and wait for nothing; returns how many, at most some thousands."""
    query = """
        DELETE FROM bucket_events WHERE id IN (
            SELECT id FROM bucket_events WHERE received_at < now() - make_interval(secs => :seconds)
              AND (handled_at IS NOT NULL OR fault IS NOT NULL)
            ORDER BY received_at LIMIT :limit FOR UPDATE SKIP LOCKED) RETURNING 1"""
    return len(session.execute(text(query), {"seconds": seconds, "limit": _EXPIRED}).all())


def drop_deleted(session: Session, limit: int = _EXPIRED) -> int:
    """Take away some thousands of the events of deleted sources, at last the sources; returns how many events."""
    query = """
        DELETE FROM bucket_events WHERE id IN (
            SELECT e.id FROM event_sources s CROSS JOIN LATERAL (
                SELECT id FROM bucket_events WHERE source_id BETWEEN s.id AND s.id ORDER BY source_id, id DESC LIMIT :limit
            ) e WHERE s.deleted_at IS NOT NULL LIMIT :limit) RETURNING 1"""
    gone = len(session.execute(text(query), {"limit": limit}).all())
    if not gone:
        query = """
            DELETE FROM event_sources s WHERE deleted_at IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM bucket_events WHERE source_id = s.id)"""
        session.execute(text(query))
    return gone
