"""Dead letters: pages that ended without a result. One filter finds them, for whoever reads or moves them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from ocrfleet.errors import JobStateConflict
from ocrfleet.store import audit, control, jobs
from ocrfleet.texts import Text

TAIL = 2000
"""Characters of an attempt's raw output that are shown, from its end."""
GROUPS_AT_MOST = 1000
GROUPS = {"code": "o.code", "revision": "a.revision", "worker": "a.worker", "job": "CAST(o.job_id AS text)"}


_Text = Annotated[Text, Field(min_length=1, max_length=256)]
_PageId = Annotated[int, Field(ge=1, lt=2**63)]


class LetterFilter(BaseModel):
    """Which dead letters are meant: what is given must all hold."""

    model_config = ConfigDict(extra="forbid")

    job_id: UUID | None = None
    codes: list[_Text] | None = Field(default=None, min_length=1, max_length=100, description="Any of these.")
    page_ids: list[_PageId] | None = Field(
        default=None, min_length=1, max_length=10_000, description="Ids of the letters."
    )
    worker: _Text | None = Field(default=None, description="Name of the worker of the last attempt.")
    revision: _Text | None = Field(default=None, description="Of the model, at the last attempt.")
    created_after: AwareDatetime | None = Field(default=None, description="Dead then or later.")
    created_before: AwareDatetime | None = Field(default=None, description="Dead before then.")
    all: bool = Field(
        default=False, description="Has to be true where nothing else is given: all letters are meant."
    )

    @property
    def given(self) -> dict[str, Any]:
        """What it names, for JSON."""
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def subject(which: LetterFilter) -> str:
    """How the audit names what is done to letters."""
    return control.subject(which.job_id) if which.job_id else "dead-letters"


_CONDITIONS = {
    "job_id": "o.job_id = :job_id",
    "codes": "o.code = ANY(:codes)",
    "page_ids": "o.page_id = ANY(:page_ids)",
    "worker": "a.worker = :worker",
    "revision": "a.revision = :revision",
    "created_after": "o.created_at >= :created_after",
    "created_before": "o.created_at < :created_before",
}
LETTERS = """
outcomes o JOIN jobs j ON j.id = o.job_id
LEFT JOIN attempts a ON a.page_id = o.page_id AND a.fence = o.fence"""
"""Letters `o`, each with its job `j` and its last attempt `a`; to be used with `matching`."""
# Who waits for POST /v1/ocr was told at once: its job is in no list, and its input is gone within the hour.
_OF_TENANT = "j.tenant_id = :tenant AND j.lane = 'bulk' AND j.purged_at IS NULL"


def matching(tenant_id: UUID, which: LetterFilter) -> tuple[str, dict[str, Any]]:
    """The condition on `LETTERS` that the filter stands for, and its values."""
    named = {name: value for name in _CONDITIONS if (value := getattr(which, name)) is not None}
    clauses = [
        "o.state = 'dead' AND o.discarded_at IS NULL",
        _OF_TENANT,
        *(_CONDITIONS[name] for name in named),
    ]
    return " AND ".join(clauses), {"tenant": tenant_id, **named}


_COLUMNS = """
p.id, p.job_id, p.item_id, nullif(p.number, 0) AS page, p.state, p.attempt, p.redrive_id, i.custom_id, i.bucket, i.key, i.member,
o.created_at, o.discarded_at, o.code, o.body -> 'error' AS error, a.worker, a.device, a.model, a.revision"""


def listing(
    session: Session,
    tenant_id: UUID,
    which: LetterFilter,
    *,
    limit: int,
    before: tuple[datetime, int] | None = None,
) -> Sequence[RowMapping]:
    """Letters, newest first, from the one after `before` (created_at, page id)."""
    where, values = matching(tenant_id, which)
    if before:
        where += " AND (o.created_at, o.page_id) < (:created_at, :id)"
        values |= {"created_at": before[0], "id": before[1]}
    query = f"""
        SELECT {_COLUMNS} FROM {LETTERS} JOIN pages p ON p.id = o.page_id JOIN items i ON i.id = p.item_id
        WHERE {where} ORDER BY o.created_at DESC, o.page_id DESC LIMIT :limit"""
    return session.execute(text(query), values | {"limit": limit}).mappings().all()


def groups(session: Session, tenant_id: UUID, which: LetterFilter, by: str) -> Sequence[RowMapping]:
    """How many letters there are of each `GROUPS[by]`, the most first, each with its newest, oldest and an example."""
    where, values = matching(tenant_id, which)
    query = f"""
        WITH g AS (
            SELECT {GROUPS[by]} AS key, count(*) AS count, max(o.created_at) AS newest, min(o.created_at) AS oldest,
                   max(o.page_id) AS example
            FROM {LETTERS} WHERE {where} GROUP BY 1
        )
        SELECT g.key, g.count, g.newest, g.oldest, g.example, o.code, o.body -> 'error' ->> 'detail' AS detail
        FROM g JOIN outcomes o ON o.page_id = g.example ORDER BY g.count DESC, g.key LIMIT {GROUPS_AT_MOST}"""
    return session.execute(text(query), values).mappings().all()


def count(session: Session, tenant_id: UUID, which: LetterFilter) -> int:
    """How many letters the filter meets."""
    where, values = matching(tenant_id, which)
    return session.execute(text(f"SELECT count(*) FROM {LETTERS} WHERE {where}"), values).scalar_one()


def get(session: Session, tenant_id: UUID, page_id: int) -> RowMapping | None:
    """One letter; also of a page that was discarded or brought back, which its `state` and its times tell."""
    query = f"""
        SELECT {_COLUMNS} FROM pages p JOIN jobs j ON j.id = p.job_id JOIN items i ON i.id = p.item_id
        LEFT JOIN outcomes o ON o.page_id = p.id AND o.state = 'dead'
        LEFT JOIN attempts a ON a.page_id = o.page_id AND a.fence = o.fence
        WHERE p.id = :page AND {_OF_TENANT} AND (p.state = 'dead' OR p.redrive_id IS NOT NULL)"""
    return session.execute(text(query), {"page": page_id, "tenant": tenant_id}).mappings().one_or_none()


def attempts(session: Session, page_id: int) -> Sequence[RowMapping]:
    """What was tried with a page and failed, oldest first, each with the end of its raw output."""
    query = """
        SELECT attempt, fence, code, detail, parameters - 'partial' AS parameters,
               right(parameters ->> 'partial', :tail) AS raw_tail, worker, device, model, revision, exclusive = 1 AS exclusive,
               timings_ms, started_at, ended_at, thumbnail
        FROM attempts WHERE page_id = :page ORDER BY fence"""
    return session.execute(text(query), {"page": page_id, "tail": TAIL}).mappings().all()


def discard(
    session: Session, tenant_id: UUID, actor: str, which: LetterFilter, *, expected: int, reason: str
) -> int:
    """Give letters up: their pages stay dead. JobStateConflict, and nothing is done, unless there are `expected`."""
    where, values = matching(tenant_id, which)
    of = text(f"SELECT DISTINCT o.job_id FROM {LETTERS} WHERE {where}")
    # Under the jobs' locks no redrive brings back what is given up here.
    held = jobs.lock(session, session.execute(of, values).scalars())
    query = f"""
        UPDATE outcomes SET discarded_at = now() WHERE page_id IN (
            SELECT o.page_id FROM {LETTERS} WHERE {where} AND o.job_id = ANY(:held)
        )"""
    actual = session.connection().execute(text(query), values | {"held": list(held)}).rowcount
    if actual != expected:
        raise JobStateConflict(
            f"{expected} dead letters were to be discarded, but the filter meets {actual}; nothing was done",
            expected=expected,
            actual=actual,
        )
    audit.record(
        session,
        tenant_id,
        actor,
        "discard",
        subject(which),
        filter=which.given,
        letters=actual,
        reason=reason,
    )
    return actual
