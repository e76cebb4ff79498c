"""Quotas: how much of a day a tenant has left, and which of its jobs wait. Work over a quota waits; it does not fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.orm import Session

TODAY = "CAST(now() AT TIME ZONE 'UTC' AS date)"
_MIDNIGHT = f"CAST({TODAY} + 1 AS timestamp) AT TIME ZONE 'UTC'"
# Unfinished bulk jobs by age: the first `jobs_open` of a tenant go on, whatever else is unfinished waits for one to end.
OPEN = "lane = 'bulk' AND finished_at IS NULL"

# A condition on a row of `jobs`: it waits for an older one of its tenant's. The first that waits stands for all after
# it, and is looked up once (OFFSET 0), so that a queue of thousands costs no more than one of ten.
WAITS = f"""EXISTS (
    SELECT 1 FROM (
        SELECT q.id AS tenant_id, o.created_at, o.id FROM tenants q CROSS JOIN LATERAL (
            SELECT created_at, id FROM jobs WHERE tenant_id = q.id AND {OPEN}
            ORDER BY created_at, id OFFSET q.jobs_open LIMIT 1
        ) o WHERE q.jobs_open IS NOT NULL OFFSET 0
    ) f WHERE f.tenant_id = jobs.tenant_id AND jobs.lane = 'bulk' AND (jobs.created_at, jobs.id) >= (f.created_at, f.id)
)"""

_SLOTS = f"q.jobs_open - (SELECT count(*) FROM (SELECT FROM jobs WHERE tenant_id = q.id AND {OPEN} LIMIT q.jobs_open) o)"
FULL = f"q.jobs_open IS NOT NULL AND {_SLOTS} <= 0"
"""A condition on a row `q` of `tenants`: a further job of its would have to wait."""

_SPENT = f"""
SELECT t.id AS tenant_id, t.pages_per_day, t.bytes_per_day, t.jobs_open, t.requests_per_minute, u.pages, u.bytes
FROM tenants t CROSS JOIN LATERAL (
    SELECT CAST(coalesce(sum(pages), 0) AS bigint) AS pages, CAST(coalesce(sum(bytes), 0) AS bigint) AS bytes
    FROM usage WHERE tenant_id = t.id AND day = {TODAY}
) u"""


def allowances(session: Session) -> dict[UUID, int]:
    """Pages that tenants with a daily quota may still send off today; others are not in it.

    What is under way counts as used. Nobody knows the bytes of a page before it is read: that quota is passed by what
    was under way when it was reached.
    """
    query = f"""
        WITH flying AS (
            SELECT j.tenant_id, count(*) AS pages FROM pages p JOIN jobs j ON j.id = p.job_id
            WHERE p.state IN ('dispatched', 'running') GROUP BY j.tenant_id
        )
        SELECT s.*, coalesce(f.pages, 0) AS flying FROM (
            {_SPENT} WHERE t.pages_per_day IS NOT NULL OR t.bytes_per_day IS NOT NULL
        ) s LEFT JOIN flying f USING (tenant_id)"""
    found: dict[UUID, int] = {}
    for row in session.execute(text(query)):
        if row.bytes_per_day is not None and row.bytes >= row.bytes_per_day:
            found[row.tenant_id] = 0
        elif row.pages_per_day is not None:
            found[row.tenant_id] = max(0, row.pages_per_day - row.pages - row.flying)
    return found


def slots(session: Session, tenant_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Further jobs of tenants with a limit that would not have to wait; others are not in it."""
    query = f"SELECT q.id, {_SLOTS} AS slots FROM tenants q WHERE q.jobs_open IS NOT NULL AND q.id = ANY(:tenants)"
    rows = session.execute(text(query), {"tenants": list(tenant_ids)})
    return {row.id: max(0, row.slots) for row in rows}


@dataclass(frozen=True, slots=True)
class Day:
    """A daily quota that is used up."""

    name: str
    limit: int
    used: int
    resets_at: datetime

    def __str__(self) -> str:
        return f"{self.name} {self.limit}"


@dataclass(frozen=True, slots=True)
class Blocked:
    """What of a tenant's waits."""

    day: Day | None
    jobs_open: int | None
    since: tuple[datetime, UUID] | None
    """The first job that waits for another to end (created_at, id); so do all after it."""

    def reason(self, created_at: datetime, job_id: UUID, *, listed: bool, ready: int) -> str | None:
        """Why a job waits, which may be `listed` (its input is read) and has so many pages that could be sent off."""
        if self.since and not listed and (created_at, job_id) >= self.since:
            return f"quota: jobs_open {self.jobs_open}"
        return f"quota: {self.day}" if self.day and ready else None


def blocked(session: Session) -> Mapping[UUID, Blocked]:
    """The tenants of which something waits for a quota."""
    query = f"""
        SELECT s.*, f.created_at, f.id, {_MIDNIGHT} AS resets_at FROM (
            {_SPENT} WHERE coalesce(t.pages_per_day, t.bytes_per_day, t.jobs_open) IS NOT NULL
        ) s LEFT JOIN LATERAL (
            SELECT created_at, id FROM jobs WHERE tenant_id = s.tenant_id AND {OPEN}
            ORDER BY created_at, id OFFSET coalesce(s.jobs_open, 2147483647) LIMIT 1
        ) f ON s.jobs_open IS NOT NULL"""
    found: dict[UUID, Blocked] = {}
    for row in session.execute(text(query)).mappings():
        spent = (
            Day(name, row[name], row[used], row["resets_at"])
            for name, used in _DAILY
            if row[name] is not None and row[used] >= row[name]
        )
        day = next(spent, None)
        since = (row["created_at"], row["id"]) if row["id"] else None
        if day or since:
            found[row["tenant_id"]] = Blocked(day, row["jobs_open"], since)
    return found


_DAILY = (("pages_per_day", "pages"), ("bytes_per_day", "bytes"))


def standing(session: Session, tenant_id: UUID) -> RowMapping:
    """The tenant's limits, what it has used of them today, its unfinished jobs, and when the day ends."""
    query = f"""
        SELECT s.*, (SELECT count(*) FROM jobs WHERE tenant_id = s.tenant_id AND {OPEN}) AS open,
               {_MIDNIGHT} AS resets_at, now() AS at
        FROM ({_SPENT} WHERE t.id = :tenant) s"""
    return session.execute(text(query), {"tenant": tenant_id}).mappings().one()
