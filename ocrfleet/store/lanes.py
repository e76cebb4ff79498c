"""The lanes: what waits in each, and whether the interactive one takes another page."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.states import Lane

_ADMISSION = 0x0C4F1EE8
"""Key of the advisory lock that makes counting and adding interactive pages one step."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Jobs that are not finished, and their pages that have no outcome yet."""

    jobs: int = 0
    pages: int = 0


def backlog(session: Session) -> dict[Lane, Backlog]:
    """What each lane has before it, from the counters of its unfinished jobs."""
    query = """
        SELECT lane, count(*) AS jobs, CAST(sum(total - succeeded - dead - canceled) AS bigint) AS pages
        FROM jobs WHERE state IN ('queued', 'running') GROUP BY lane"""
    found = {Lane(row.lane): Backlog(row.jobs, row.pages) for row in session.execute(text(query))}
    return {lane: found.get(lane, Backlog()) for lane in Lane}


class Unfinished(NamedTuple):
    """Interactive pages without an outcome: everybody's, and one tenant's own."""

    pages: int
    own: int
    shared: bool
    """There are other tenants."""


def unfinished_interactive(session: Session, tenant_id: UUID) -> Unfinished:
    """How full the interactive lane is; a job of it is one page."""
    query = """
        SELECT count(*), count(*) FILTER (WHERE tenant_id = :tenant),
               EXISTS (SELECT 1 FROM tenants WHERE id <> :tenant)
        FROM jobs WHERE lane = 'interactive' AND state IN ('queued', 'running')"""
    return Unfinished(*session.execute(text(query), {"tenant": tenant_id}).one())


def lock_admission(session: Session) -> None:
    """Let nobody else add interactive pages before this transaction ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADMISSION})
