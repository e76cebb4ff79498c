"""Uploads: objects that callers put into our bucket themselves, open until they say that all bytes are there."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

_COLUMNS = """
id, tenant_id, bucket, key, filename, bytes, multipart_id, etag, state, created_at, completed_at,
created_at + make_interval(secs => :expiry) AS expires_at"""


def create(session: Session, row: Mapping[str, Any]) -> bool:
    """Add an open upload: id, tenant_id, bucket, key, filename, bytes, multipart_id; False if it is there already."""
    query = """
        INSERT INTO uploads (id, tenant_id, bucket, key, filename, bytes, multipart_id)
        VALUES (:id, :tenant_id, :bucket, :key, :filename, :bytes, :multipart_id)
        ON CONFLICT (id) DO NOTHING RETURNING 1"""
    return session.execute(text(query), dict(row)).scalar() is not None


def get(session: Session, tenant_id: UUID, upload_id: UUID, expiry: float) -> RowMapping | None:
    """A tenant's upload; `expires_at` is `expiry` seconds behind its beginning."""
    query = f"SELECT {_COLUMNS} FROM uploads WHERE tenant_id = :tenant AND id = :id"
    values = {"tenant": tenant_id, "id": upload_id, "expiry": expiry}
    return session.execute(text(query), values).mappings().one_or_none()


def listing(
    session: Session,
    tenant_id: UUID,
    expiry: float,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    state: str | None = None,
) -> Sequence[RowMapping]:
    """A tenant's uploads, newest first, from the one after `before` (created_at, id)."""
    clauses = [f"SELECT {_COLUMNS} FROM uploads WHERE tenant_id = :tenant"]
    values: dict[str, Any] = {"tenant": tenant_id, "expiry": expiry, "limit": limit}
    if state:
        clauses.append("AND state = :state")
        values["state"] = state
    if before:
        clauses.append("AND (created_at, id) < (:created_at, :before)")
        values |= {"created_at": before[0], "before": before[1]}
    clauses.append("ORDER BY created_at DESC, id DESC LIMIT :limit")
    return session.execute(text("\n".join(clauses)), values).mappings().all()


def complete(session: Session, tenant_id: UUID, upload_id: UUID, etag: str) -> bool:
    """The bytes are there, under this ETag; False unless it was open until now."""
    query = """
        UPDATE uploads SET state = 'complete', etag = :etag, completed_at = now()
        WHERE tenant_id = :tenant AND id = :id AND state = 'open' RETURNING 1"""
    values = {"tenant": tenant_id, "id": upload_id, "etag": etag}
    return session.execute(text(query), values).scalar() is not None


def give_up(session: Session, tenant_id: UUID, upload_id: UUID) -> bool:
    """From now on nobody can use or complete it, and its bytes are to be removed; False if there is none."""
    query = """
        UPDATE uploads SET state = 'expired', completed_at = NULL
        WHERE tenant_id = :tenant AND id = :id AND state <> 'expired' RETURNING 1"""
    return session.execute(text(query), {"tenant": tenant_id, "id": upload_id}).scalar() is not None


def expire(
    session: Session, seconds: float, *, after: tuple[datetime, UUID] | None = None, limit: int = 1000
) -> Sequence[RowMapping]:
    """Give up what has been open for so long; returns uploads whose bytes are still to be removed.

    The oldest first, from the one after `after` (created_at, id).
    """
    query = """
        UPDATE uploads SET state = 'expired'
        WHERE state = 'open' AND created_at < now() - make_interval(secs => :seconds)"""
    session.execute(text(query), {"seconds": seconds})
    clauses = ["SELECT id, bucket, key, multipart_id, created_at FROM uploads"]
    clauses.append("WHERE state = 'expired' AND completed_at IS NULL")
    values: dict[str, Any] = {"limit": limit}
    if after:
        clauses.append("AND (created_at, id) > (:created_at, :after)")
        values |= {"created_at": after[0], "after": after[1]}
    clauses.append("ORDER BY created_at, id LIMIT :limit")
    return session.execute(text(" ".join(clauses)), values).mappings().all()


def cleared(session: Session, upload_id: UUID) -> None:
    """Nothing of it is in the store any more."""
    query = "UPDATE uploads SET completed_at = now() WHERE id = :id AND state = 'expired'"
    session.execute(text(query), {"id": upload_id})


def remove(session: Session, tenant_id: UUID, upload_id: UUID) -> None:
    """Forget one that was given up, when nothing of it is in the store any more."""
    query = "DELETE FROM uploads WHERE tenant_id = :tenant AND id = :id AND state = 'expired'"
    session.execute(text(query), {"tenant": tenant_id, "id": upload_id})


def found(session: Session, tenant_id: UUID, upload_ids: Sequence[UUID]) -> dict[UUID, RowMapping]:
    """Those of the uploads that are the tenant's."""
    query = "SELECT id, bucket, key, filename, etag, state FROM uploads WHERE tenant_id = :tenant AND id = ANY(:ids)"
    rows = session.execute(text(query), {"tenant": tenant_id, "ids": list(upload_ids)}).mappings()
    return {row["id"]: row for row in rows}
