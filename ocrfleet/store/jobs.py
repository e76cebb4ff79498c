"""Jobs: making, reading, locking and moving them; their counters change here and nowhere else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ocrfleet.states import JobState, Lane
from ocrfleet.store import deliveries
from ocrfleet.store.notify import JOB_DONE, WORK, notify
from ocrfleet.tables import items, jobs, pages

ACTIVE = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a caller asks for; `input` is kept as it came."""

    id: UUID
    tenant_id: UUID
    task: str
    input: Mapping[str, Any]
    lane: Lane = Lane.BULK
    prompt: str | None = None
    options: Mapping[str, Any] | None = None
    labels: Mapping[str, str] | None = None
    priority: int = 0
    deadline: datetime | None = None
    output: Mapping[str, Any] | None = None
    webhook_ids: Sequence[UUID] = ()
    rule_id: int | None = None
    open_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """What one transaction adds to a job's counters."""

    job_id: UUID
    items: int = 0
    pending: int = 0
    total: int = 0
    succeeded: int = 0
    dead: int = 0
    canceled: int = 0
    results: int = 0
    listed: bool = False
    """The input has been read to its end."""


@dataclass(frozen=True, slots=True)
class LockedJob:
    """A job whose row this transaction holds."""

    state: JobState
    result_seq: int

    @property
    def accepts(self) -> bool:
        """Whether results still count; those of a canceled or failed job don't."""
        return self.state in ACTIVE


def create(session: Session, job: NewJob) -> None:
    """Add a job for the producer to expand."""
    _insert(session, job)
    notify(session, WORK)


def create_single(session: Session, job: NewJob, *, bucket: str, key: str, etag: str) -> None:
    """Add a job of one single-page item, expanded from the start (the interactive lane)."""
    _insert(session, job, total=1, items_total=1, listed_at=text("now()"), expanded_at=text("now()"))
    row = {"job_id": job.id, "ordinal": 0, "bucket": bucket, "key": key, "etag": etag}
    counted = insert(items).values(**row, state="counted", page_count=1).returning(items.c.id)
    item_id = session.execute(counted).scalar_one()
    session.execute(insert(pages).values(item_id=item_id, job_id=job.id, number=1))
    notify(session, WORK)


def _insert(session: Session, job: NewJob, **values: Any) -> None:
    empty: dict[str, Any] = {}
    maps = {"options": job.options or empty, "labels": job.labels or empty, "output": job.output or empty}
    row = asdict(job) | maps | {"webhook_ids": list(job.webhook_ids)}
    if maps["output"].get("per_item"):
        values["output_leased_until"] = text("now()")
    # One of this id that is there was made by the same request before its answer was kept.
    session.execute(insert(jobs).values(**row, **values).on_conflict_do_nothing(index_elements=["id"]))


# The input may hold a thousand objects: it is told by their number.
_SELECT = """
SELECT j.id, j.tenant_id, j.state, j.outcome, j.lane, j.priority, j.task, j.prompt, j.labels, j.deadline, j.created_at,
       j.started_at, j.finished_at, j.listed_at, j.expanded_at, j.items_total, j.items_pending, j.total, j.succeeded,
       j.dead, j.canceled, j.result_seq, j.generation, j.error, j.throughput, j.webhook_ids, e.errors,
       CASE WHEN j.output_error IS NULL THEN j.output
            ELSE j.output || jsonb_build_object('error', j.output_error) END AS output,
       CAST(j.xmin AS text) AS version,
       CASE WHEN j.input ? 'objects' THEN j.input - 'objects'
            || jsonb_build_object('count', jsonb_array_length(j.input -> 'objects')) ELSE j.input END AS input,
       j.total - j.succeeded - j.dead - j.canceled AS outstanding
FROM jobs j
CROSS JOIN LATERAL (
    SELECT coalesce(jsonb_object_agg(code, x.pages), '{}') AS errors FROM job_errors x
    WHERE x.job_id = j.id AND x.pages > 0
) e
WHERE j.tenant_id = :tenant AND (j.purged_at IS NULL OR :purged)
"""


def get(session: Session, tenant_id: UUID, job_id: UUID, *, purged: bool = False) -> RowMapping | None:
    """The job with its stored counts; `outstanding` is what they leave of `total`. A deleted one only if `purged`."""
    query = text(_SELECT + " AND j.id = :job")
    values = {"tenant": tenant_id, "job": job_id, "purged": purged}
    return session.execute(query, values).mappings().one_or_none()


def listing(
    session: Session,
    tenant_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    state: JobState | None = None,
    labels: Mapping[str, str] | None = None,
) -> Sequence[RowMapping]:
    """Jobs, newest first, from the one after `before` (created_at, id)."""
    clauses = [_SELECT, "AND j.lane = 'bulk'"]
    values: dict[str, Any] = {"tenant": tenant_id, "limit": limit, "purged": False}
    if state:
        clauses.append("AND j.state = :state")
        values["state"] = state
    if before:
        clauses.append("AND (j.created_at, j.id) < (:created_at, :id)")
        values |= {"created_at": before[0], "id": before[1]}
    if labels:
        pairs = [f"jsonb_build_object(CAST(:k{n} AS text), CAST(:v{n} AS text))" for n in range(len(labels))]
        clauses.append(f"AND j.labels @> ({' || '.join(pairs)})")
        for n, (key, value) in enumerate(labels.items()):
            values |= {f"k{n}": key, f"v{n}": value}
    clauses.append("ORDER BY j.created_at DESC, j.id DESC LIMIT :limit")
    return session.execute(text("\n".join(clauses)), values).mappings().all()


def ended(session: Session, job_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the jobs that are terminal: no more results come, unless one is redriven."""
    query = text("SELECT id FROM jobs WHERE id = ANY(:ids) AND finished_at IS NOT NULL")
    return set(session.execute(query, {"ids": list(job_ids)}).scalars())


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a job has ended, and what stands for its row as it is: another `version` for every change."""

    id: UUID
    ended: bool
    version: str


def standing(session: Session, job_ids: Sequence[UUID]) -> list[Standing]:
    """Those of the jobs that callers see, for who waits for a change."""
    query = """
        SELECT id, finished_at IS NOT NULL, CAST(xmin AS text) FROM jobs
        WHERE id = ANY(:ids) AND purged_at IS NULL"""
    return [Standing(*row) for row in session.execute(text(query), {"ids": list(job_ids)})]


def is_there(session: Session, job_id: UUID) -> bool:
    """Whether the job is one that callers see: nobody has deleted it."""
    query = text("SELECT 1 FROM jobs WHERE id = :job AND purged_at IS NULL")
    return session.execute(query, {"job": job_id}).scalar() is not None


def lock(session: Session, job_ids: Iterable[UUID]) -> dict[UUID, LockedJob]:
    """Lock the jobs, ascending. Whoever ends, returns or cancels pages takes these locks first."""
    query = text("SELECT id, state, result_seq FROM jobs WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")
    rows = session.execute(query, {"ids": sorted(set(job_ids))})
    return {row.id: LockedJob(JobState(row.state), row.result_seq) for row in rows}


# The only place where a job completes: the counters it decides on are the ones it writes.
_ADVANCE = text("""
UPDATE jobs j SET
    items_total = n.items_total, items_pending = n.items_pending, total = n.total, succeeded = n.succeeded,
    dead = n.dead, canceled = n.canceled, result_seq = n.result_seq, listed_at = n.listed_at,
    expanded_at = n.expanded_at,
    state = CASE WHEN NOT n.done OR j.finished_at IS NOT NULL THEN j.state
                 WHEN j.state = 'canceling' THEN 'canceled' ELSE 'completed' END,
    finished_at = CASE WHEN n.done THEN coalesce(j.finished_at, now()) ELSE j.finished_at END,
    outcome = CASE WHEN NOT n.done OR j.finished_at IS NOT NULL THEN j.outcome
                   WHEN n.succeeded = n.total THEN 'succeeded'
                   WHEN n.succeeded = 0 THEN 'failed' ELSE 'partial' END
FROM (
    SELECT m.*, m.expanded_at IS NOT NULL AND m.succeeded + m.dead + m.canceled = m.total AS done
    FROM (
        SELECT o.id, o.finished_at IS NULL AS unfinished,
               o.items_total + d.items AS items_total, o.items_pending + d.pending AS items_pending,
               o.total + d.total AS total, o.succeeded + d.succeeded AS succeeded, o.dead + d.dead AS dead,
               o.canceled + d.canceled AS canceled, o.result_seq + d.results AS result_seq,
               CASE WHEN d.listed THEN coalesce(o.listed_at, now()) ELSE o.listed_at END AS listed_at,
               CASE WHEN (d.listed OR o.listed_at IS NOT NULL) AND o.items_pending + d.pending = 0
                    THEN coalesce(o.expanded_at, now()) ELSE o.expanded_at END AS expanded_at
        FROM jobs o JOIN unnest(
            CAST(:job_id AS uuid[]), CAST(:items AS bigint[]), CAST(:pending AS bigint[]), CAST(:total AS bigint[]),
            CAST(:succeeded AS bigint[]), CAST(:dead AS bigint[]), CAST(:canceled AS bigint[]),
            CAST(:results AS bigint[]), CAST(:listed AS boolean[])
        ) AS d(id, items, pending, total, succeeded, dead, canceled, results, listed) ON d.id = o.id
    ) m
) n
WHERE j.id = n.id
RETURNING j.id, n.done AND n.unfinished AS ended
""")


def advance(session: Session, deltas: Sequence[Delta]) -> None:
    """Add to the counters of jobs that this transaction has locked, one delta a job; complete what is done."""
    columns = {f.name: [getattr(delta, f.name) for delta in deltas] for f in fields(Delta)}
    announce(session, [row.id for row in session.execute(_ADVANCE, columns).all() if row.ended])


def announce(session: Session, job_ids: Sequence[UUID]) -> None:
    """Tell whoever waits for jobs that end in this transaction, here and over webhooks."""
    for job_id in job_ids:
        notify(session, JOB_DONE, str(job_id))
    deliveries.jobs_ended(session, job_ids)


def start(session: Session, job_ids: Sequence[UUID]) -> None:
    """Mark jobs that are about to be dispatched for the first time as running."""
    query = """
        UPDATE jobs SET state = 'running', started_at = now() WHERE id IN (
            SELECT id FROM jobs WHERE id = ANY(:ids) AND state = 'queued' ORDER BY id FOR NO KEY UPDATE)"""
    session.execute(text(query), {"ids": list(job_ids)})


def sample_throughput(session: Session, every: float) -> None:
    """Renew each running job's pages/s (exponentially smoothed) if its sample is older than `every` seconds."""
    query = """
        WITH due AS (
            SELECT id FROM jobs
            WHERE state IN ('queued', 'running') AND coalesce(sampled_at, started_at) < now() - make_interval(secs => :every)
            ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
        )
        UPDATE jobs j SET sampled_at = now(), sampled_done = s.done,
               throughput = CASE WHEN j.throughput IS NULL THEN s.rate ELSE 0.6 * j.throughput + 0.4 * s.rate END
        FROM (
            SELECT id, succeeded + dead AS done, (succeeded + dead - sampled_done)
                   / extract(epoch FROM now() - coalesce(sampled_at, started_at)) AS rate
            FROM jobs WHERE id IN (SELECT id FROM due)
        ) s
        WHERE j.id = s.id"""
    session.execute(text(query), {"every": every})
