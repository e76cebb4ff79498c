"""What the dispatcher asks of the record. Only it scans for work; ready rows are the outbox."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.states import EXCLUSIVE_AFTER, Lane


@dataclass(frozen=True, slots=True)
class Load:
    """Messages and pages that are dispatched or running."""

    messages: int = 0
    pages: int = 0
    suspects: int = 0
    """Of the messages, those whose pages run alone on their worker."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The live workers, summed."""

    workers: int
    slots: int
    in_flight: int
    """Pages their engines want at once."""
    pages_per_second: float


@dataclass(frozen=True, slots=True)
class Demand:
    """A tenant with ready pages, and its jobs in the order they are to be served."""

    tenant_id: UUID
    weight: float
    jobs: list[UUID]


def load(session: Session) -> dict[Lane, Load]:
    """What each lane has in flight; bounded by the window, whatever the size of the jobs."""
    query = """
        SELECT j.lane, count(DISTINCT p.batch_id) AS messages, count(*) AS pages,
               count(DISTINCT p.batch_id) FILTER (WHERE p.losses >= :exclusive) AS suspects
        FROM pages p JOIN jobs j ON j.id = p.job_id WHERE p.state IN ('dispatched', 'running') GROUP BY j.lane"""
    rows = session.execute(text(query), {"exclusive": EXCLUSIVE_AFTER})
    found = {Lane(row.lane): Load(row.messages, row.pages, row.suspects) for row in rows}
    return {lane: found.get(lane, Load()) for lane in Lane}


def in_flight(session: Session) -> dict[UUID, tuple[int, int]]:
    """How many pages of each job are dispatched and running; jobs without any are not in it."""
    query = """
        SELECT job_id, count(*) FILTER (WHERE state = 'dispatched') AS dispatched,
               count(*) FILTER (WHERE state = 'running') AS running
        FROM pages WHERE state IN ('dispatched', 'running') GROUP BY job_id"""
    return {row.job_id: (row.dispatched, row.running) for row in session.execute(text(query))}


def capacity(session: Session, heartbeat_timeout: float) -> Capacity:
    """The live workers that take work."""
    query = """
        SELECT count(*) AS workers, coalesce(sum(slots), 0) AS slots,
               coalesce(sum(in_flight_target), 0) AS in_flight, coalesce(sum(pages_per_second), 0) AS rate
        FROM workers WHERE state = 'ready' AND heartbeat_at > now() - make_interval(secs => :timeout)"""
    row = session.execute(text(query), {"timeout": heartbeat_timeout}).one()
    return Capacity(row.workers, row.slots, row.in_flight, row.rate)


def demand(session: Session, lane: Lane, *, jobs_per_tenant: int = 64) -> list[Demand]:
    """Tenants with pages that may run now, their jobs by priority, then age."""
    query = """
        SELECT t.id AS tenant_id, t.weight, j.id AS job_id
        FROM tenants t CROSS JOIN LATERAL (
            SELECT id, priority, created_at FROM jobs
            WHERE tenant_id = t.id AND lane = :lane AND state IN ('queued', 'running')
              AND (deadline IS NULL OR deadline > now())
              AND EXISTS (SELECT 1 FROM pages p WHERE p.job_id = jobs.id AND p.state = 'ready' AND p.not_before <= now())
            ORDER BY priority DESC, created_at LIMIT :limit
        ) j
        ORDER BY t.id, j.priority DESC, j.created_at"""
    found: dict[UUID, Demand] = {}
    for row in session.execute(text(query), {"lane": lane.value, "limit": jobs_per_tenant}):
        found.setdefault(row.tenant_id, Demand(row.tenant_id, row.weight, [])).jobs.append(row.job_id)
    return list(found.values())


def take(
    session: Session, job_ids: Sequence[UUID], limit: int, *, suspects: bool, beside: Sequence[int] = ()
) -> list[tuple[int, UUID]]:
    """Lock up to `limit` ready pages of these jobs, in their order: (page id, job id). Locked rows are skipped.

    Either pages that may run beside others, or `suspects`, which have lost so many workers that they may not. Those
    `beside` which they are taken are this transaction's already: its own locks are none that it would skip.
    """
    # The limit stops the nested loop, so that no job is locked beyond what is taken.
    # The comparison is spelt out so that the index of suspects is found: there are few, if any, among millions.
    which = f"losses >= {EXCLUSIVE_AFTER}" if suspects else f"losses < {EXCLUSIVE_AFTER}"
    query = f"""
        SELECT p.id, j.id AS job_id FROM unnest(CAST(:jobs AS uuid[])) AS j(id) CROSS JOIN LATERAL (
            SELECT id FROM pages
            WHERE job_id = j.id AND state = 'ready' AND not_before <= now() AND {which}
              AND id <> ALL(CAST(:beside AS bigint[]))
            ORDER BY not_before, id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
        ) p LIMIT :limit"""
    rows = session.execute(text(query), {"jobs": list(job_ids), "limit": limit, "beside": list(beside)})
    return [(row.id, row.job_id) for row in rows]


def batch_ids(session: Session, count: int) -> list[int]:
    """Fresh batch ids."""
    query = "SELECT nextval('page_batches') FROM generate_series(1, :count)"
    return list(session.execute(text(query), {"count": count}).scalars())


def mark(session: Session, batches: Sequence[tuple[int, Sequence[int]]]) -> dict[int, int]:
    """Move locked pages into their batches (batch id, page ids); returns each page's new fence."""
    query = """
        UPDATE pages p SET state = 'dispatched', fence = p.fence + 1, batch_id = b.batch_id, since = now()
        FROM unnest(CAST(:pages AS bigint[]), CAST(:batches AS bigint[])) AS b(page_id, batch_id)
        WHERE p.id = b.page_id AND p.state = 'ready'
        RETURNING p.id, p.fence"""
    values = {
        "pages": [page for _, pages in batches for page in pages],
        "batches": [batch for batch, pages in batches for _ in pages],
    }
    return {row.id: row.fence for row in session.execute(text(query), values)}


def unmark(session: Session, batches: Sequence[int]) -> int:
    """Return the pages of batches that could not be published; a message that got through finds no page."""
    query = """
        WITH back AS (
            SELECT id FROM pages WHERE state = 'dispatched' AND batch_id = ANY(:batches) ORDER BY id FOR NO KEY UPDATE
        )
        UPDATE pages p SET state = 'ready', batch_id = NULL, since = now() FROM back WHERE p.id = back.id
        RETURNING 1"""
    return len(session.execute(text(query), {"batches": list(batches)}).all())


def next_ready(session: Session) -> float | None:
    """Seconds until the next page that waits out a backoff may run; None if none does."""
    query = """
        SELECT extract(epoch FROM min(p.not_before) - now()) FROM jobs j CROSS JOIN LATERAL (
            SELECT not_before FROM pages WHERE job_id = j.id AND state = 'ready' AND not_before > now()
            ORDER BY not_before LIMIT 1
        ) p WHERE j.state IN ('queued', 'running')"""
    seconds = session.execute(text(query)).scalar()
    return None if seconds is None else float(seconds)
