"""Files of the OpenAI-shaped façade: what callers sent, and what was made of their batches."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ocrfleet.store import audit
from ocrfleet.tables import files

_COLUMNS = "id, purpose, filename, bucket, key, bytes, created_at"


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file whose object is in the store."""

    id: str
    tenant_id: UUID
    purpose: str
    filename: str
    bucket: str
    key: str
    bytes: int


def create(session: Session, file: NewFile, actor: str | None = None) -> None:
    """Add a file; one of this id that is there is left as it is. Without an `actor` it is nobody's act."""
    made = session.execute(
        insert(files).values(**asdict(file)).on_conflict_do_nothing().returning(files.c.id)
    )
    if made.scalar() is not None and actor is not None:
        audit.record(session, file.tenant_id, actor, "create_file", f"file:{file.id}", bytes=file.bytes)


def get(session: Session, tenant_id: UUID, file_id: str) -> RowMapping | None:
    """The tenant's file."""
    query = f"SELECT {_COLUMNS} FROM files WHERE tenant_id = :tenant AND id = :id"
    return session.execute(text(query), {"tenant": tenant_id, "id": file_id}).mappings().one_or_none()


def listing(
    session: Session,
    tenant_id: UUID,
    *,
    limit: int,
    after: str | None = None,
    purpose: str | None = None,
    ascending: bool = False,
) -> Sequence[RowMapping]:
    """The tenant's files by their time of creation, from the one after `after` (an id; an unknown one has none)."""
    than, order = (">", "ASC") if ascending else ("<", "DESC")
    clauses = [f"SELECT {_COLUMNS} FROM files WHERE tenant_id = :tenant"]
    if after is not None:
        mark = "SELECT created_at, id FROM files WHERE tenant_id = :tenant AND id = :after"
        clauses.append(f"AND (created_at, id) {than} ({mark})")
    if purpose is not None:
        clauses.append("AND purpose = :purpose")
    clauses.append(f"ORDER BY created_at {order}, id {order} LIMIT :limit")
    values = {"tenant": tenant_id, "after": after, "purpose": purpose, "limit": limit}
    return session.execute(text("\n".join(clauses)), values).mappings().all()


def delete(session: Session, tenant_id: UUID, file_id: str, actor: str) -> tuple[str, str] | None:
    """Forget the file; returns the bucket and key of its object, which is the caller's to remove, or None."""
    query = "DELETE FROM files WHERE tenant_id = :tenant AND id = :id RETURNING bucket, key"
    row = session.execute(text(query), {"tenant": tenant_id, "id": file_id}).one_or_none()
    if row is None:
        return None
    audit.record(session, tenant_id, actor, "delete_file", f"file:{file_id}")
    return row.bucket, row.key
