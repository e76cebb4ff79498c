"""Batches of the OpenAI-shaped façade: made by callers, moved on by producers, one job for each prompt."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, RowMapping, text
from sqlalchemy.orm import Session

from ocrfleet.errors import JobStateConflict
from ocrfleet.states import BatchStatus
from ocrfleet.store import audit, control, jobs
from ocrfleet.store.jobs import NewJob

# While it runs, what its jobs have counted so far; the total is the input's lines, whatever pages they have.
_SELECT = """
SELECT b.*, CASE WHEN b.ended_at IS NULL THEN coalesce(j.succeeded, 0) ELSE b.completed END AS done,
       CASE WHEN b.ended_at IS NULL THEN b.refused + coalesce(j.lost, 0) ELSE b.failed END AS lost
FROM batches b CROSS JOIN LATERAL (
    SELECT sum(succeeded) AS succeeded, sum(dead + canceled) AS lost FROM jobs WHERE id = ANY(b.job_ids)
) j
WHERE b.tenant_id = :tenant
"""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What a caller asks for; `window` in seconds, after which what is not done is canceled."""

    id: str
    tenant_id: UUID
    input_file_id: str
    endpoint: str
    completion_window: str
    window: float
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Turn:
    """A batch that this producer alone moves on, for as long as `leased_until` is what the row says."""

    id: str
    tenant_id: UUID
    status: BatchStatus
    job_ids: Sequence[UUID]
    input_file_id: str
    refused: int
    expires_at: datetime
    leased_until: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a line's document, with its outcome unless it has none (a canceled one)."""

    ordinal: int
    custom_id: str
    state: str | None
    body: Mapping[str, Any]


def create(session: Session, batch: NewBatch, actor: str) -> None:
    """Add a batch whose input file a producer will read; one of this id that is there is left as it is."""
    query = """
        INSERT INTO batches (id, tenant_id, input_file_id, endpoint, completion_window, metadata, expires_at)
        VALUES (:id, :tenant, :file, :endpoint, :completion_window, CAST(:metadata AS jsonb),
                now() + make_interval(secs => :window))
        ON CONFLICT DO NOTHING RETURNING 1"""
    values = {
        "id": batch.id,
        "tenant": batch.tenant_id,
        "file": batch.input_file_id,
        "endpoint": batch.endpoint,
        "completion_window": batch.completion_window,
        "window": batch.window,
        "metadata": orjson.dumps(batch.metadata).decode(),
    }
    if session.execute(text(query), values).scalar() is not None:
        audit.record(session, batch.tenant_id, actor, "create_batch", f"batch:{batch.id}")


def get(session: Session, tenant_id: UUID, batch_id: str) -> RowMapping | None:
    """The tenant's batch; `done` and `lost` are its counts of now."""
    values = {"tenant": tenant_id, "id": batch_id}
    return session.execute(text(_SELECT + " AND b.id = :id"), values).mappings().one_or_none()


def listing(
    session: Session, tenant_id: UUID, *, limit: int, after: str | None = None
) -> Sequence[RowMapping]:
    """The tenant's batches, newest first, from the one after `after` (an id; an unknown one has none)."""
    clauses = [_SELECT]
    if after is not None:
        mark = "SELECT created_at, id FROM batches WHERE tenant_id = :tenant AND id = :after"
        clauses.append(f"AND (b.created_at, b.id) < ({mark})")
    clauses.append("ORDER BY b.created_at DESC, b.id DESC LIMIT :limit")
    values = {"tenant": tenant_id, "after": after, "limit": limit}
    return session.execute(text("\n".join(clauses)), values).mappings().all()


def cancel(session: Session, tenant_id: UUID, batch_id: str, actor: str) -> bool:
    """Cancel its jobs; what they have read is kept. False if there is none; JobStateConflict if it has ended."""
    query = "SELECT status, job_ids FROM batches WHERE tenant_id = :tenant AND id = :id FOR NO KEY UPDATE"
    row = session.execute(text(query), {"tenant": tenant_id, "id": batch_id}).one_or_none()
    if row is None:
        return False
    if row.status in (BatchStatus.CANCELLING, BatchStatus.CANCELLED):
        return True
    if row.status not in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS):
        raise JobStateConflict(f"The batch is {row.status} and can no longer be cancelled.", state=row.status)
    query = "UPDATE batches SET status = 'cancelling', cancelling_at = now() WHERE id = :id"
    session.execute(text(query), {"id": batch_id})
    audit.record(session, tenant_id, actor, "cancel_batch", f"batch:{batch_id}")
    held = jobs.lock(session, row.job_ids)
    for job_id in sorted(held):
        if held[job_id].accepts:
            control.cancel(session, tenant_id, job_id, actor=actor)
    return True


# A batch has a turn when its file is to be read, and when the last of its jobs has ended.
_LEASE = text("""
UPDATE batches SET leased_until = clock_timestamp() + make_interval(secs => :seconds),
       status = CASE WHEN status = 'in_progress' THEN 'finalizing' ELSE status END,
       finalizing_at = CASE WHEN status = 'in_progress' THEN now() ELSE finalizing_at END
WHERE id = (
    SELECT id FROM batches b
    WHERE ended_at IS NULL AND (leased_until IS NULL OR leased_until <= now())
      AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = ANY(b.job_ids) AND j.finished_at IS NULL)
    ORDER BY created_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
) RETURNING id, tenant_id, status, job_ids, input_file_id, refused, expires_at, leased_until
""")


def lease(session: Session, seconds: float) -> Turn | None:
    """The next batch that there is something to do for, for this producer alone; None if there is none."""
    row = session.execute(_LEASE, {"seconds": seconds}).one_or_none()
    if row is None:
        return None
    status = BatchStatus(row.status)
    return Turn(
        row.id,
        row.tenant_id,
        status,
        row.job_ids,
        row.input_file_id,
        row.refused,
        row.expires_at,
        row.leased_until,
    )


def renew(session: Session, turn: Turn, seconds: float) -> datetime | None:
    """Hold it for longer: its new end, or None if another has it."""
    query = """
        UPDATE batches SET leased_until = clock_timestamp() + make_interval(secs => :seconds)
        WHERE id = :id AND leased_until = :held RETURNING leased_until"""
    values = {"id": turn.id, "held": turn.leased_until, "seconds": seconds}
    return session.execute(text(query), values).scalar()


def postpone(session: Session, turn: Turn, seconds: float) -> None:
    """Give it back; it has its turn again in so many seconds."""
    query = """
        UPDATE batches SET leased_until = clock_timestamp() + make_interval(secs => :seconds)
        WHERE id = :id AND leased_until = :held"""
    session.execute(text(query), {"id": turn.id, "held": turn.leased_until, "seconds": seconds})


def begin(session: Session, turn: Turn, made: Sequence[NewJob], *, lines: int, refused: int) -> bool:
    """The file is read: make its jobs. False, and nothing done, if it was canceled or is another's meanwhile."""
    query = """
        UPDATE batches SET status = 'in_progress', in_progress_at = now(), job_ids = :jobs, lines = :lines,
               refused = :refused, leased_until = NULL
        WHERE id = :id AND leased_until = :held AND status = 'validating' RETURNING 1"""
    values = {
        "id": turn.id,
        "held": turn.leased_until,
        "jobs": [job.id for job in made],
        "lines": lines,
        "refused": refused,
    }
    if session.execute(text(query), values).scalar() is None:
        return False
    for job in made:
        jobs.create(session, job)
    return True


def fail(session: Session, turn: Turn, errors: Sequence[Mapping[str, Any]]) -> None:
    """End a batch whose input file is no batch, or that cannot be read or written down."""
    query = """
        UPDATE batches SET status = 'failed', ended_at = now(), errors = CAST(:errors AS jsonb), leased_until = NULL
        WHERE id = :id AND leased_until = :held"""
    values = {"id": turn.id, "held": turn.leased_until, "errors": orjson.dumps(errors).decode()}
    session.execute(text(query), values)


def end(
    session: Session,
    turn: Turn,
    status: BatchStatus,
    *,
    completed: int,
    failed: int,
    output_file_id: str | None,
    error_file_id: str | None,
) -> bool:
    """End a batch whose files are written; False if another producer has it."""
    query = """
        UPDATE batches SET status = :status, ended_at = now(), completed = :completed, failed = :failed,
               output_file_id = :output, error_file_id = :errors, leased_until = NULL
        WHERE id = :id AND leased_until = :held RETURNING 1"""
    values = {
        "id": turn.id,
        "held": turn.leased_until,
        "status": status.value,
        "completed": completed,
        "failed": failed,
        "output": output_file_id,
        "errors": error_file_id,
    }
    return session.execute(text(query), values).scalar() is not None


# Nobody's turn comes any more once it has ended: the column of that lease says when its images were removed.
_DONE_WITH = text("""
SELECT id, tenant_id FROM batches b
WHERE ended_at IS NOT NULL AND leased_until IS NULL
  AND (ended_at < now() - make_interval(secs => :seconds) OR NOT EXISTS (
      SELECT 1 FROM jobs j WHERE j.id = ANY(b.job_ids) AND j.purged_at IS NULL))
  AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = ANY(b.job_ids) AND j.finished_at IS NULL)
ORDER BY ended_at LIMIT :limit
""")


def done_with(session: Session, seconds: float, limit: int = 100) -> list[tuple[str, UUID]]:
    """Ids and tenants of batches whose images are still to be removed: they ended so long ago, or their jobs are gone.

    A batch with a job that was redriven keeps them until that has ended again.
    """
    rows = session.execute(_DONE_WITH, {"seconds": seconds, "limit": limit})
    return [(row.id, row.tenant_id) for row in rows]


def cleared(session: Session, batch_id: str) -> None:
    """None of its images is in the store any more."""
    query = "UPDATE batches SET leased_until = now() WHERE id = :id AND ended_at IS NOT NULL"
    session.execute(text(query), {"id": batch_id})


_PAGES = text("""
SELECT i.ordinal, i.custom_id, o.state, o.body
FROM (SELECT id, ordinal, custom_id FROM items WHERE job_id = :job AND ordinal > :after ORDER BY ordinal LIMIT :limit) i
LEFT JOIN pages p ON p.item_id = i.id LEFT JOIN outcomes o ON o.page_id = p.id
ORDER BY i.ordinal, p.number
""")


def pages(session: Session, job_id: UUID, after: int, limit: int) -> Iterator[Page]:
    """The pages of up to `limit` lines after the one of that ordinal, line by line, with their outcomes."""
    rows: Iterator[Row[Any]] = iter(session.execute(_PAGES, {"job": job_id, "after": after, "limit": limit}))
    for row in rows:
        yield Page(row.ordinal, row.custom_id or "", row.state, row.body or {})


def expired(session: Session, job_ids: Sequence[UUID]) -> bool:
    """Whether a job was ended by its deadline."""
    query = "SELECT 1 FROM jobs WHERE id = ANY(:ids) AND error ->> 'code' = 'deadline_exceeded' LIMIT 1"
    return session.execute(text(query), {"ids": list(job_ids)}).scalar() is not None


def task_of(session: Session, job_id: UUID) -> str:
    """The task of a batch's job; empty for one that is gone."""
    return session.execute(text("SELECT task FROM jobs WHERE id = :job"), {"job": job_id}).scalar() or ""
