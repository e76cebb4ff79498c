"""What the record knows of why a job waits: asked for one job at a time, and bounded whatever its size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

from ocrfleet.store import audit, control, workers

LOOKED_AT = 1000
"""Pages that wait out a backoff are looked at up to here."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What else the fleet has before it, in pages."""

    tenants: int
    """Others with unfinished bulk jobs."""
    theirs: int
    """Their pages without an outcome."""
    held: int
    """Of these and ours, those that the workers hold: the window."""
    held_by_others: int
    own: int
    """Pages of the caller's jobs that go before this one, by priority and then age."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pages that wait before they are tried again."""

    pages: int
    """At most LOOKED_AT, the soonest; those that a redrive's rate holds back are told there."""
    next_in: float
    """Seconds."""
    by_code: Mapping[str, int]
    """What they failed with last; those that never failed are not in it."""


@dataclass(frozen=True, slots=True)
class Redrive:
    """A redrive that brings the job's pages back."""

    id: int
    max_per_second: float | None
    finished: bool
    """It has brought back all that it will; they may wait for their turn."""
    waiting: int
    """Pages, at most LOOKED_AT, that its rate holds back."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it, as of now."""

    now: datetime
    workers: Sequence[RowMapping]
    """As `workers.fleet` gives them."""
    paused: RowMapping | None
    """The latest act of pausing: at, actor, detail."""
    ahead: Ahead
    backoff: Backoff
    redrives: Sequence[Redrive]
    open_until: datetime | None
    """A rule's job takes further objects until then."""


def facts(session: Session, job: RowMapping, heartbeat_timeout: float) -> Facts:
    """What is known of a job, as `jobs.get` gives it."""
    now, open_until = session.execute(
        text("SELECT now(), (SELECT open_until FROM jobs WHERE id = :job)"), {"job": job["id"]}
    ).one()
    paused = audit.listing(
        session, job["tenant_id"], limit=1, act="pause", subject=control.subject(job["id"])
    )
    return Facts(
        now=now,
        workers=workers.fleet(session, heartbeat_timeout),
        paused=paused[0] if paused else None,
        ahead=_ahead(session, job),
        backoff=_backoff(session, job["id"]),
        redrives=_redrives(session, job["id"]),
        open_until=open_until,
    )


def _ahead(session: Session, job: RowMapping) -> Ahead:
    query = """
        WITH held AS (
            SELECT count(*) AS pages, count(*) FILTER (WHERE j.tenant_id <> :tenant) AS others
            FROM pages p JOIN jobs j ON j.id = p.job_id
            WHERE p.state IN ('dispatched', 'running') AND j.lane = 'bulk'
        ), open AS (
            SELECT tenant_id, priority, created_at, id, total - succeeded - dead - canceled AS pages
            FROM jobs WHERE state IN ('queued', 'running') AND lane = 'bulk'
        )
        SELECT count(DISTINCT tenant_id) FILTER (WHERE tenant_id <> :tenant AND pages > 0),
               CAST(coalesce(sum(pages) FILTER (WHERE tenant_id <> :tenant), 0) AS bigint),
               (SELECT pages FROM held), (SELECT others FROM held),
               CAST(coalesce(sum(pages) FILTER (WHERE tenant_id = :tenant AND id <> :job
                   AND (-priority, created_at) < (-:priority, CAST(:created AS timestamptz))), 0) AS bigint)
        FROM open"""
    values = {"tenant": job["tenant_id"], "job": job["id"], "priority": job["priority"]}
    return Ahead(*session.execute(text(query), values | {"created": job["created_at"]}).one())


_WAITING = """
SELECT id, not_before, redrive_id FROM pages
WHERE job_id = :job AND state = 'ready' AND not_before > now() ORDER BY not_before, id LIMIT :limit"""
_UNRATED = "NOT EXISTS (SELECT 1 FROM redrives r WHERE r.id = w.redrive_id AND r.max_per_second IS NOT NULL)"


def _backoff(session: Session, job_id: UUID) -> Backoff:
    query = f"""
        SELECT count(*) AS pages, coalesce(extract(epoch FROM min(w.not_before) - now()), 0) AS next_in
        FROM ({_WAITING}) w WHERE {_UNRATED}"""
    values = {"job": job_id, "limit": LOOKED_AT}
    row = session.execute(text(query), values).one()
    codes = f"""
        SELECT a.code, count(*) AS pages FROM ({_WAITING}) w CROSS JOIN LATERAL (
            SELECT code FROM attempts WHERE page_id = w.id ORDER BY fence DESC LIMIT 1
        ) a WHERE {_UNRATED} GROUP BY 1 ORDER BY 2 DESC, 1"""
    by_code = {one.code: one.pages for one in session.execute(text(codes), values)} if row.pages else {}
    return Backoff(row.pages, float(row.next_in), by_code)


def _redrives(session: Session, job_id: UUID) -> list[Redrive]:
    """Those that have still to bring something back, or whose rate holds pages of this job."""
    query = f"""
        WITH held AS (SELECT redrive_id, count(*) AS pages FROM ({_WAITING}) w GROUP BY 1)
        SELECT r.id, r.max_per_second, r.finished_at IS NOT NULL AS finished, coalesce(h.pages, 0) AS waiting
        FROM redrives r LEFT JOIN held h ON h.redrive_id = r.id
        WHERE r.tenant_id = (SELECT tenant_id FROM jobs WHERE id = :job)
          AND (h.pages > 0 AND r.max_per_second IS NOT NULL
               OR r.finished_at IS NULL AND coalesce(r.filter ->> 'job_id', CAST(:job AS text)) = CAST(:job AS text))
        ORDER BY r.id LIMIT 10"""
    rows = session.execute(text(query), {"job": job_id, "limit": LOOKED_AT})
    return [Redrive(row.id, row.max_per_second, row.finished, row.waiting) for row in rows]
