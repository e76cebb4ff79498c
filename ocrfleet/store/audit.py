"""Who did what to which job or page: a row for every act, in the transaction of the act."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session


def record(session: Session, tenant_id: UUID, actor: str, act: str, subject: str, **detail: Any) -> None:
    """Write down an act. `actor` is an API key's id, `subject` what it was done to; `detail` is kept as JSON."""
    query = """
        INSERT INTO audit (tenant_id, actor, act, subject, detail)
        VALUES (:tenant, :actor, :act, :subject, CAST(:detail AS jsonb))"""
    values = {"tenant": tenant_id, "actor": actor, "act": act, "subject": subject}
    session.execute(text(query), values | {"detail": orjson.dumps(detail).decode()})


def listing(
    session: Session,
    tenant_id: UUID,
    *,
    limit: int,
    before: int | None = None,
    since: datetime | None = None,
    actor: str | None = None,
    act: str | None = None,
    subject: str | None = None,
) -> Sequence[RowMapping]:
    """A tenant's acts, newest first, from the one after `before` (an id) back to `since`; those that all else fits."""
    clauses = ["SELECT id, at, actor, act, subject, detail FROM audit WHERE tenant_id = :tenant"]
    values: dict[str, Any] = {"tenant": tenant_id, "limit": limit}
    for name, condition, value in (
        ("before", "id < :before", before),
        ("since", "at >= :since", since),
        ("actor", "actor = :actor", actor),
        ("act", "act = :act", act),
        ("subject", "subject = :subject", subject),
    ):
        if value is not None:
            clauses.append(f"AND {condition}")
            values[name] = value
    clauses.append("ORDER BY id DESC LIMIT :limit")
    return session.execute(text("\n".join(clauses)), values).mappings().all()
