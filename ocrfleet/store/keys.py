"""API keys: listing, making and revoking them, and when each was used last."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from ocrfleet.errors import NotFound
from ocrfleet.store import audit, tenants

_SELECT = """
SELECT k.id, k.name, k.tenant_id, t.name AS tenant, k.created_at, k.expires_at, k.revoked_at, k.last_used_at,
       CASE WHEN k.scopes = '{}' THEN CAST(:usual AS text[]) ELSE k.scopes END AS scopes
FROM api_keys k JOIN tenants t ON t.id = k.tenant_id WHERE (k.tenant_id = :tenant OR CAST(:tenant AS uuid) IS NULL)"""
_USUAL = [str(scope) for scope in tenants.USUAL]


def get(session: Session, tenant_id: UUID, key_id: str) -> RowMapping | None:
    """A key of the tenant's, also one that was revoked or has expired."""
    values = {"tenant": tenant_id, "id": key_id, "usual": _USUAL}
    return session.execute(text(f"{_SELECT} AND k.id = :id"), values).mappings().one_or_none()


def listing(
    session: Session, tenant_id: UUID | None, *, limit: int, before: tuple[datetime, str] | None = None
) -> Sequence[RowMapping]:
    """A tenant's keys (None: everybody's), newest first, from the one after `before` (created_at, id)."""
    values: dict[str, Any] = {"tenant": tenant_id, "limit": limit, "usual": _USUAL}
    clauses = [_SELECT]
    if before:
        clauses.append("AND (k.created_at, k.id) < (:created_at, :id)")
        values |= {"created_at": before[0], "id": before[1]}
    clauses.append("ORDER BY k.created_at DESC, k.id DESC LIMIT :limit")
    return session.execute(text("\n".join(clauses)), values).mappings().all()


def create(
    session: Session,
    tenant_id: UUID,
    actor: str,
    *,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
    request_id: UUID | None = None,
) -> tuple[str, RowMapping]:
    """Make a key and write that down: the key itself, which is told now or never, and its row.

    NotFound: there is no such tenant. AnswerNotKept: the same request has made it before.
    """
    tenant = tenants.get(session, tenant_id)
    if tenant is None:
        raise NotFound(f"There is no tenant {tenant_id}.")
    key = tenants.create_key(
        session,
        tenant=tenant["name"],
        name=name,
        scopes=scopes,
        expires_at=expires_at,
        request_id=request_id,
    )
    key_id, _ = tenants.split(key)
    audit.record(
        session, tenant_id, actor, "keys.create", f"key:{key_id}",
        name=name, scopes=[str(scope) for scope in scopes], expires_at=expires_at,
    )  # fmt: skip
    row = get(session, tenant_id, key_id)
    if row is None:
        raise NotFound(f"There is no key {key_id}.")
    return key, row


def revoke(session: Session, tenant_id: UUID, key_id: str, *, actor: str) -> RowMapping:
    """Refuse the key from now on; NotFound if the tenant has none of this id. Revoking twice is no error."""
    query = """
        UPDATE api_keys SET revoked_at = now() WHERE tenant_id = :tenant AND id = :id AND revoked_at IS NULL
        RETURNING 1"""
    if session.execute(text(query), {"tenant": tenant_id, "id": key_id}).scalar() is not None:
        audit.record(session, tenant_id, actor, "keys.revoke", f"key:{key_id}")
    row = get(session, tenant_id, key_id)
    if row is None:
        raise NotFound(f"There is no key {key_id}.")
    return row


def touch(session: Session, key_id: str) -> None:
    """Note that the key was used; once a minute is enough."""
    query = """
        UPDATE api_keys SET last_used_at = now()
        WHERE id = :id AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')"""
    session.execute(text(query), {"id": key_id})


def any_there(session: Session) -> bool:
    """Whether a key has been made before: the first one of an installation may do everything."""
    return bool(session.execute(text("SELECT EXISTS (SELECT 1 FROM api_keys)")).scalar())
