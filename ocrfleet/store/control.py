"""Acts upon jobs, each safe to repeat: cancel, pause, resume, change, delete; and what ends a job unasked."""

from collections.abc import Mapping
from datetime import datetime
from typing import TypedDict
from uuid import UUID

from sqlalchemy import TextClause, text, update
from sqlalchemy.orm import Session

from ocrfleet import tables
from ocrfleet.errors import Canceled, DeadlineExceeded, FleetError, JobStateConflict, NotFound
from ocrfleet.states import JOB_TERMINAL, JobState
from ocrfleet.store import audit
from ocrfleet.store.jobs import ACTIVE, Delta, advance, announce, lock
from ocrfleet.store.notify import CANCEL, WORK, notify

_AT_ONCE, _STEP = 1000, 2500
"""Queued pages, and items to be counted, canceled while the caller waits for the answer, and in each step after it."""


class Changes(TypedDict, total=False):
    """What a caller may change of a job; what is not named stays."""

    priority: int
    deadline: datetime | None
    labels: Mapping[str, str | None]
    """Put over those that are there; None takes one away."""


def subject(job_id: UUID) -> str:
    """How the audit names a job."""
    return f"job:{job_id}"


def _lock(session: Session, tenant_id: UUID, job_id: UUID, *, purged: bool = False) -> JobState:
    """Lock the tenant's job, before any of its pages; NotFound if there is none, or it is deleted."""
    query = """
        SELECT state FROM jobs WHERE id = :job AND tenant_id = :tenant AND (purged_at IS NULL OR :purged)
        FOR NO KEY UPDATE"""
    values = {"job": job_id, "tenant": tenant_id, "purged": purged}
    state = session.execute(text(query), values).scalar()
    if state is None:
        raise NotFound(f"There is no job {job_id}.")
    return JobState(state)


def _refuse_unless_active(state: JobState, done: str) -> None:
    if state not in ACTIVE:
        raise JobStateConflict(f"The job is {state} and can no longer be {done}.", state=state)


def cancel(
    session: Session,
    tenant_id: UUID,
    job_id: UUID,
    because: type[FleetError] = Canceled,
    *,
    actor: str | None = None,
) -> JobState:
    """Cancel: nothing queued is claimed any more, running pages end when their worker lets go.

    What a large job has queued becomes `canceled` in steps (`drop_canceled`), and so does the job. NotFound for an unknown job,
    JobStateConflict for one that completed or failed. Without an `actor` it is nobody's act.
    """
    state = _lock(session, tenant_id, job_id)
    if state in (JobState.CANCELING, JobState.CANCELED):
        return state
    _refuse_unless_active(state, "canceled")
    # Nothing more is expanded: what has been listed so far is the whole of it.
    query = """
        UPDATE jobs SET state = 'canceling', listed_at = coalesce(listed_at, now()),
               error = jsonb_build_object('code', CAST(:code AS text), 'detail', CAST(:detail AS text))
        WHERE id = :job"""
    session.execute(text(query), {"job": job_id, "code": because.code, "detail": because().detail})
    _drop_queued(session, job_id, _AT_ONCE)
    notify(session, CANCEL, str(job_id))
    if actor is not None:
        audit.record(session, tenant_id, actor, "cancel", subject(job_id))
    return JobState.CANCELING


def drop_canceled(session: Session) -> bool:
    """Go on canceling what one job that is being canceled has queued, some thousands; False if there is none.

    Any number of producers may do so at once.
    """
    query = """
        SELECT id FROM jobs j WHERE state = 'canceling'
          AND (items_pending > 0
               OR EXISTS (SELECT 1 FROM pages p WHERE p.job_id = j.id AND p.state = 'ready')
               OR EXISTS (SELECT 1 FROM pages p WHERE p.job_id = j.id AND p.state = 'dispatched'))
        ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"""
    job_id = session.execute(text(query)).scalar()
    if job_id is None:
        return False
    _drop_queued(session, job_id, _STEP)
    return True


def expire(session: Session) -> bool:
    """Cancel one job whose deadline has passed; False if there is none."""
    # Under its lock: a caller may have moved the deadline this moment.
    query = """
        SELECT tenant_id, id FROM jobs WHERE deadline <= now() AND state IN ('queued', 'running', 'paused')
        ORDER BY deadline LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"""
    late = session.execute(text(query)).one_or_none()
    if late is None:
        return False
    cancel(session, late.tenant_id, late.id, DeadlineExceeded)
    return True


def fail(session: Session, job_id: UUID, error: FleetError) -> None:
    """End a job whose expansion failed; pages already expanded that wait are canceled."""
    held = lock(session, [job_id])
    if job_id not in held or not held[job_id].accepts:
        return
    query = """
        UPDATE jobs SET state = 'failed', outcome = 'failed', finished_at = now(),
               error = jsonb_build_object('code', CAST(:code AS text), 'detail', CAST(:detail AS text))
        WHERE id = :job"""
    session.execute(text(query), {"job": job_id, "code": error.code, "detail": error.detail})
    _drop_queued(session, job_id)
    notify(session, CANCEL, str(job_id))
    announce(session, [job_id])


# The two halves are apart so that each finds its partial index. Claims wait for dispatched pages, hence their order.
_DROP = text("""
WITH dispatched AS (
    SELECT id FROM pages WHERE job_id = :job AND state = 'dispatched' ORDER BY id FOR NO KEY UPDATE
), ready AS (
    SELECT id FROM pages WHERE job_id = :job AND state = 'ready' ORDER BY not_before, id LIMIT :limit FOR NO KEY UPDATE
)
UPDATE pages p SET state = 'canceled', since = now(), batch_id = NULL
FROM (SELECT id FROM dispatched UNION ALL SELECT id FROM ready) q WHERE p.id = q.id RETURNING 1
""")


_DROP_ITEMS = text("""
UPDATE items i SET state = 'failed' FROM (
    SELECT id FROM items WHERE job_id = :job AND state = 'pending' ORDER BY id LIMIT :limit FOR NO KEY UPDATE
) q WHERE i.id = q.id RETURNING 1
""")


def _drop_queued(session: Session, job_id: UUID, limit: int | None = None) -> None:
    """Cancel what waits, pages and items that were still to be counted: all of it, or some of each."""
    values = {"job": job_id, "limit": limit}
    items = len(session.execute(_DROP_ITEMS, values).all())
    # Twice: what a dispatcher or the sweeper has just moved from one half to the other is found the second time.
    pages = sum(len(session.execute(_DROP, values).all()) for _ in range(2))
    advance(session, [Delta(job_id, pending=-items, canceled=pages)])


def pause(session: Session, tenant_id: UUID, job_id: UUID, *, actor: str) -> None:
    """Pause: nothing more is claimed, what was dispatched is ready again at no charge, what runs finishes.

    The input is expanded on. NotFound, or JobStateConflict for a job that has ended or is being canceled.
    """
    state = _lock(session, tenant_id, job_id)
    if state == JobState.PAUSED:
        return
    _refuse_unless_active(state, "paused")
    session.execute(text("UPDATE jobs SET state = 'paused' WHERE id = :job"), {"job": job_id})
    session.execute(_recall("p.job_id = :job"), {"job": job_id})
    audit.record(session, tenant_id, actor, "pause", subject(job_id))


def resume(session: Session, tenant_id: UUID, job_id: UUID, *, actor: str) -> None:
    """Let a paused job go on; one that is not paused is left as it is. NotFound and JobStateConflict as in `pause`."""
    state = _lock(session, tenant_id, job_id)
    _refuse_unless_active(state, "resumed")
    if state != JobState.PAUSED:
        return
    # The pause is no time in which nothing was done: the speed is sampled afresh.
    query = """
        UPDATE jobs SET state = CASE WHEN started_at IS NULL THEN 'queued' ELSE 'running' END, throughput = NULL,
               sampled_at = CASE WHEN started_at IS NULL THEN NULL ELSE now() END, sampled_done = succeeded + dead
        WHERE id = :job"""
    session.execute(text(query), {"job": job_id})
    # What was dispatched in spite of the pause has no message any more: a worker has refused it.
    session.execute(_recall("p.job_id = :job"), {"job": job_id})
    notify(session, WORK)
    audit.record(session, tenant_id, actor, "resume", subject(job_id))


def recall_paused(session: Session) -> int:
    """Return what a dispatcher that did not know of the pause has dispatched since; how many pages there were."""
    paused = "EXISTS (SELECT 1 FROM jobs j WHERE j.id = p.job_id AND j.state = 'paused')"
    return len(session.execute(_recall(paused)).all())


def _recall(which: str) -> TextClause:
    """Dispatched pages become ready, as if they had never been dispatched; their messages find no page."""
    return text(f"""
        WITH back AS (
            SELECT p.id FROM pages p WHERE p.state = 'dispatched' AND {which} ORDER BY p.id FOR NO KEY UPDATE OF p
        )
        UPDATE pages p SET state = 'ready', batch_id = NULL, since = now() FROM back WHERE p.id = back.id
        RETURNING 1""")


def change(session: Session, tenant_id: UUID, job_id: UUID, changes: Changes, *, actor: str) -> None:
    """Change what is named; of a job that has ended only the labels, else JobStateConflict. NotFound."""
    state = _lock(session, tenant_id, job_id)
    if changes.keys() - {"labels"} and state not in ACTIVE:
        raise JobStateConflict(f"The job is {state}; only its labels can still be changed.", state=state)
    query = "SELECT priority, deadline, labels FROM jobs WHERE id = :job"
    before = session.execute(text(query), {"job": job_id}).mappings().one()
    after = dict(changes)
    if "labels" in changes:
        merged = {**before["labels"], **changes["labels"]}
        after["labels"] = {name: value for name, value in merged.items() if value is not None}
    new = {name: value for name, value in after.items() if value != before[name]}
    if new:
        session.execute(update(tables.jobs).where(tables.jobs.c.id == job_id).values(**new))
        old = {name: before[name] for name in new}
        audit.record(session, tenant_id, actor, "change", subject(job_id), before=old, after=new)


def delete(session: Session, tenant_id: UUID, job_id: UUID, *, actor: str) -> None:
    """Hide an ended job from everybody, for the producer to take away, chunk by chunk (`purge`).

    NotFound when that is done, JobStateConflict before the job has ended.
    """
    state = _lock(session, tenant_id, job_id, purged=True)
    if state not in JOB_TERMINAL:
        raise JobStateConflict(f"The job is {state}; cancel it, or wait for its end.", state=state)
    # Its expansion is over; the column of that lease serves the purge.
    query = """
        UPDATE jobs SET purged_at = now(), expansion_leased_until = NULL WHERE id = :job AND purged_at IS NULL
        RETURNING 1"""
    if session.execute(text(query), {"job": job_id}).scalar():
        audit.record(session, tenant_id, actor, "delete", subject(job_id))
