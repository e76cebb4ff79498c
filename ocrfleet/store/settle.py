"""Settling: what became of leased pages, recorded in batches under the fences they were leased with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet import failpoints
from ocrfleet.documents import parse_pages
from ocrfleet.states import PageState
from ocrfleet.store import cache, containers, jobs, outcomes
from ocrfleet.store.containers import RedrivenPage
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.notify import WORK, notify
from ocrfleet.store.usage import NOTHING, Spent

# A lease holds while its worker's heartbeat is fresh and one of the last two heartbeats names the page's batch;
# a page claimed after the last but one has not been missing from two yet.
LEASE_VOID = """NOT EXISTS (
    SELECT 1 FROM workers w
    WHERE w.incarnation = p.incarnation AND w.state <> 'stopped'
      AND w.heartbeat_at > now() - make_interval(secs => :timeout)
      AND (p.batch_id = ANY(w.batches) OR p.batch_id = ANY(w.previous_batches)
           OR w.previous_heartbeat_at IS NULL OR w.previous_heartbeat_at <= p.since)
)"""

Begun = dict[tuple[int, int], datetime]
"""By page id and fence, when an attempt began."""


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
    timings: str = "{}"
    """JSON object: milliseconds by phase, as far as the attempt came."""
    thumbnail: str | None = None
    """Key in our bucket of a small image of a page that died."""
    cache_key: bytes | None = None
    """Under which the next who asks the same finds the result; None keeps it out of the cache."""
    spent: Spent = NOTHING
    """What the page took, where it ends."""
    page_count: int | None = None
    """Pages found in an item that had been taken for a single image."""
    members: Sequence[NewItem] = ()
    """Files found in a redriven item that is an archive; the page is the first one's from now on."""
    incarnation: UUID | None = None
    exclusive: bool = False
    """The page ran alone."""
    swept: bool = False
    """By the sweeper: holds only if the lease is void at that moment too."""
    lost: bool = False
    """Its worker vanished under it."""


# A page that returns through no fault of its own keeps its place: it is not to wait behind a million others once more.
_APPLY = text(f"""
UPDATE pages p SET
    state = s.state, since = now(), incarnation = NULL, batch_id = NULL,
    failures = p.failures + s.failed, losses = p.losses + s.lost,
    not_before = CASE WHEN s.state = 'ready' AND s.delay > 0 THEN now() + make_interval(secs => s.delay)
                      ELSE p.not_before END
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
    # A worker may have slept until its job was canceled, deleted and purged.
    known = [s for s in settlements if s.job_id in held]
    decided = [s if held[s.job_id].accepts else replace(s, state=PageState.CANCELED) for s in known]
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
    begun = _begun(session, [s for s in decided if s.code is not None])
    # By fence as well: one flush may hold a page twice, under the lease it lost and under its newer one.
    ours = {(row.id, row.fence) for row in session.execute(_APPLY, values)}
    settled = [s for s in decided if (s.page_id, s.fence) in ours]
    if not settled:
        return set()
    _record(session, settled, {job_id: job.result_seq for job_id, job in held.items()}, begun)
    notify(session, WORK)
    return {s.page_id for s in settled}


def _begun(session: Session, settlements: Sequence[Settlement]) -> Begun:
    """When attempts began that are to be kept: the page's row says it until it is settled."""
    if not settlements:
        return {}
    query = text("SELECT id, fence, since FROM pages WHERE id = ANY(:ids) AND state = 'running'")
    rows = session.execute(query, {"ids": [s.page_id for s in settlements]})
    return {(row.id, row.fence): row.since for row in rows}


def _record(session: Session, settled: Sequence[Settlement], seqs: dict[UUID, int], begun: Begun) -> None:
    """Write outcomes and attempts of settled pages and move their jobs' counters."""
    deltas: dict[UUID, dict[str, int]] = {}
    rows: list[outcomes.Outcome] = []
    for s in settled:
        delta = deltas.setdefault(s.job_id, dict.fromkeys(_COUNTED, 0))
        if s.state in (PageState.SUCCEEDED, PageState.DEAD):
            delta["results"] += 1
            seq = seqs[s.job_id] + delta["results"]
            rows.append(
                outcomes.Outcome(
                    s.page_id, s.job_id, seq, s.fence, s.attempt, s.state, s.code, s.body, s.spent
                )
            )
        if s.state != PageState.READY:
            delta[s.state.value] += 1
        if s.page_count is not None and s.state != PageState.CANCELED:
            delta["total"] += _grow(session, s)
        if s.members and s.state != PageState.CANCELED:
            _unpack(session, s, seqs[s.job_id], delta)
    failpoints.reach("settle.before_insert")
    outcomes.write(session, rows)
    failpoints.reach("settle.after_insert")
    cache.keep(
        session, [(s.cache_key, s.page_id) for s in settled if s.cache_key and s.state == PageState.SUCCEEDED]
    )
    _keep_attempts(session, [s for s in settled if s.code is not None], begun)
    jobs.advance(session, [jobs.Delta(job_id, **deltas[job_id], listed=False) for job_id in sorted(deltas)])


_COUNTED = ("succeeded", "dead", "canceled", "results", "total", "items")


def _unpack(session: Session, settlement: Settlement, seq: int, delta: dict[str, int]) -> None:
    """Add to `delta` what the job gets; its results so far end at `seq` and those of `delta`."""
    page = RedrivenPage(settlement.page_id, settlement.item_id, settlement.job_id)
    grown = containers.unpack_redriven(session, page, settlement.members, seq + delta["results"])
    more = {"items": grown.items, "total": grown.items, "dead": grown.dead, "results": grown.dead}
    delta.update({name: delta[name] + count for name, count in more.items()})


def _grow(session: Session, settlement: Settlement) -> int:
    """Add the further pages of an item whose pages nobody knew, those that are wanted; returns how many there are.

    Its name had hidden them, or it could not be counted before a redrive, whose pages they are then.
    """
    query = """
        SELECT coalesce(r.override ->> 'pages', i.options ->> 'pages', j.options ->> 'pages')
        FROM pages p JOIN items i ON i.id = p.item_id JOIN jobs j ON j.id = p.job_id
        LEFT JOIN redrives r ON r.id = p.redrive_id WHERE p.id = :page"""
    values = {"page": settlement.page_id, "item": settlement.item_id, "count": settlement.page_count}
    wanted = session.execute(text(query), values).scalar()
    numbers = parse_pages(wanted or f"1-{settlement.page_count}", settlement.page_count or 0)
    query = """
        WITH item AS (
            UPDATE items SET page_count = :count WHERE id = :item AND page_count IS NULL RETURNING id, job_id
        )
        INSERT INTO pages (item_id, job_id, number, redrive_id)
        SELECT item.id, item.job_id, n, p.redrive_id
        FROM item JOIN pages p ON p.id = :page CROSS JOIN unnest(CAST(:numbers AS integer[])) AS n
        WHERE n <> p.number RETURNING 1"""
    return len(session.execute(text(query), values | {"numbers": numbers}).all())


_KEEP = text("""
INSERT INTO attempts (page_id, fence, attempt, incarnation, exclusive, code, detail, parameters, timings_ms, thumbnail,
                      started_at, worker, device, model, revision)
SELECT n.page_id, n.fence, n.attempt, n.incarnation, n.exclusive, n.code, n.detail, n.parameters, n.timings_ms,
       n.thumbnail, n.started_at, w.name, w.device, w.model, w.revision
FROM json_to_recordset(CAST(:rows AS json)) AS n(
    page_id bigint, fence integer, attempt smallint, incarnation uuid, exclusive integer, code text, detail text,
    parameters jsonb, timings_ms jsonb, thumbnail text, started_at timestamptz
) LEFT JOIN workers w ON w.incarnation = n.incarnation
ON CONFLICT DO NOTHING
""")


def _keep_attempts(session: Session, settlements: Sequence[Settlement], begun: Begun) -> None:
    """Keep attempts that did not succeed, each with its code, its parameters, and who made it."""
    if not settlements:
        return
    rows = [
        {
            "page_id": s.page_id,
            "fence": s.fence,
            "attempt": s.attempt,
            "incarnation": s.incarnation,
            "exclusive": int(s.exclusive),
            "code": s.code,
            "detail": s.detail,
            "parameters": orjson.Fragment(s.parameters),
            "timings_ms": orjson.Fragment(s.timings),
            "thumbnail": s.thumbnail,
            "started_at": begun.get((s.page_id, s.fence)),
        }
        for s in settlements
    ]
    session.execute(_KEEP, {"rows": orjson.dumps(rows).decode()})
