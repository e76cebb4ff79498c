"""Settling: what became of leased pages, recorded in batches under the fences they were leased with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.states import PageState
from ocrfleet.store import jobs, outcomes
from ocrfleet.store.notify import WORK, notify

# A lease holds while its worker's heartbeat is fresh and one of the last two heartbeats names the page's batch;
# a page claimed after the last but one has not been missing from two yet.
LEASE_VOID = """NOT EXISTS (
    SELECT 1 FROM workers w
    WHERE w.incarnation = p.incarnation AND w.state <> 'stopped'
      AND w.heartbeat_at > now() - make_interval(secs => :timeout)
      AND (p.batch_id = ANY(w.batches) OR p.batch_id = ANY(w.previous_batches)
           OR w.previous_heartbeat_at IS NULL OR w.previous_heartbeat_at <= p.since)
)"""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of one leased page."""

    page_id: int
    fence: int
    job_id: UUID
    item_id: int
    attempt: int
    state: PageState
    """`succeeded`, `dead`, `canceled`, or `ready` to run again after `delay` seconds."""
    body: str = "{}"
    """JSON object: the members of the result line that the page itself has."""
    code: str | None = None
    detail: str = ""
    delay: float = 0.0
    failed: bool = False
    """Whether the page's own failure budget is charged."""
    parameters: str = "{}"
    page_count: int | None = None
    """Pages found in an item that had been taken for a single image."""
    incarnation: UUID | None = None
    exclusive: bool = False
    """The page ran alone."""
    swept: bool = False
    """By the sweeper: holds only if the lease is void at that moment too."""
    lost: bool = False
    """Its worker vanished under it."""


_APPLY = text(f"""
UPDATE pages p SET
    state = s.state, since = now(), incarnation = NULL, batch_id = NULL,
    failures = p.failures + s.failed, losses = p.losses + s.lost,
    not_before = CASE WHEN s.state = 'ready' THEN now() + make_interval(secs => s.delay) ELSE p.not_before END
FROM json_to_recordset(CAST(:rows AS json)) AS s(
    id bigint, fence integer, state text, failed integer, lost integer, swept boolean, delay float
)
WHERE p.id = s.id AND p.fence = s.fence AND p.state = 'running' AND (NOT s.swept OR {LEASE_VOID})
RETURNING p.id, p.fence
""")


def settle(session: Session, settlements: Sequence[Settlement], lease_timeout: float = 0.0) -> set[int]:
    """Record what became of leased pages; returns the ids that were still ours.

    A page whose fence or state moved on is left alone: its newer lease decides. Job rows are locked before page
    rows, as everywhere. A page of a canceling job becomes canceled whatever came out of it.
    """
    held = jobs.lock(session, [s.job_id for s in settlements])
    decided = [s if held[s.job_id].accepts else replace(s, state=PageState.CANCELED) for s in settlements]
    # One JSON text costs the worker a fraction of seven arrays.
    rows = [
        {
            "id": s.page_id,
            "fence": s.fence,
            "state": s.state,
            "failed": int(s.failed),
            "lost": int(s.lost),
            "swept": s.swept,
            "delay": s.delay,
        }
        for s in decided
    ]
    values = {"rows": orjson.dumps(rows).decode(), "timeout": lease_timeout}
    # By fence as well: one flush may hold a page twice, under the lease it lost and under its newer one.
    ours = {(row.id, row.fence) for row in session.execute(_APPLY, values)}
    settled = [s for s in decided if (s.page_id, s.fence) in ours]
    if not settled:
        return set()
    _record(session, settled, {job_id: job.result_seq for job_id, job in held.items()})
    notify(session, WORK)
    return {s.page_id for s in settled}


def _record(session: Session, settled: Sequence[Settlement], seqs: dict[UUID, int]) -> None:
    """Write outcomes and attempts of settled pages and move their jobs' counters."""
    deltas: dict[UUID, dict[str, int]] = {}
    rows: list[outcomes.Outcome] = []
    for s in settled:
        delta = deltas.setdefault(s.job_id, dict.fromkeys(_COUNTED, 0))
        if s.state in (PageState.SUCCEEDED, PageState.DEAD):
            delta["results"] += 1
            seq = seqs[s.job_id] + delta["results"]
            rows.append(
                outcomes.Outcome(s.page_id, s.job_id, seq, s.fence, s.attempt, s.state, s.code, s.body)
            )
        if s.state != PageState.READY:
            delta[s.state.value] += 1
        if s.page_count is not None and s.state != PageState.CANCELED:
            delta["total"] += _grow(session, s)
    outcomes.write(session, rows)
    _keep_attempts(session, [s for s in settled if s.code is not None])
    jobs.advance(session, [jobs.Delta(job_id, **deltas[job_id], listed=False) for job_id in sorted(deltas)])


_COUNTED = ("succeeded", "dead", "canceled", "results", "total")


def _grow(session: Session, settlement: Settlement) -> int:
    """Add the further pages of an item whose name had hidden them; returns how many there are."""
    query = """
        WITH item AS (
            UPDATE items SET page_count = :count WHERE id = :item AND page_count IS NULL RETURNING id, job_id
        )
        INSERT INTO pages (item_id, job_id, number)
        SELECT item.id, item.job_id, n FROM item CROSS JOIN generate_series(2, :count) AS n
        RETURNING 1"""
    values = {"item": settlement.item_id, "count": settlement.page_count}
    return len(session.execute(text(query), values).all())


def _keep_attempts(session: Session, settlements: Sequence[Settlement]) -> None:
    """Keep attempts that did not succeed, each with its code and parameters."""
    if not settlements:
        return
    query = """
        INSERT INTO attempts (page_id, fence, attempt, incarnation, exclusive, code, detail, parameters)
        VALUES (:page_id, :fence, :attempt, :incarnation, :exclusive, :code, :detail, CAST(:parameters AS jsonb))
        ON CONFLICT DO NOTHING"""
    rows = [
        {
            "page_id": s.page_id,
            "fence": s.fence,
            "attempt": s.attempt,
            "incarnation": s.incarnation,
            "exclusive": int(s.exclusive),
            "code": s.code,
            "detail": s.detail,
            "parameters": s.parameters,
        }
        for s in settlements
    ]
    session.execute(text(query), rows)
