"""What the sweeper finds: leases whose worker is gone, and messages that never arrived."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.errors import EngineCrashed, PoisonPage, WorkerLost
from ocrfleet.states import EXCLUSIVE_AFTER, PROOFS, PageState
from ocrfleet.store import outcomes
from ocrfleet.store.settle import LEASE_VOID, Settlement, settle


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep returned."""

    lost: int
    unheld: int
    poisoned: int


def clock(session: Session) -> datetime:
    """The database's time, the only one that leases are measured by."""
    return session.execute(text("SELECT now()")).scalar_one()


def leases(
    session: Session,
    heartbeat_timeout: float,
    *,
    since: datetime | None = None,
    grace: float = 0.0,
    limit: int = 5000,
) -> Swept:
    """Return running pages whose lease is void.

    A page whose worker vanished is charged a loss, unless its last heartbeat is older than the database's own start
    or than `since`, the beginning of the sweeper's session: then something else may have hindered it. One that a live
    worker no longer names is returned at no cost. Two exclusive losses make a page poison. Nothing is done within
    `grace` seconds of `since`.
    """
    # While the database was down nobody could beat: no lease expires until workers had their time to.
    query = f"""
        SELECT p.id, p.fence, p.job_id, p.item_id, p.attempt, p.losses, p.incarnation,
               w.incarnation IS NULL OR w.state = 'stopped'
                   OR w.heartbeat_at <= now() - make_interval(secs => :timeout) AS gone,
               coalesce(w.heartbeat_at < greatest(pg_postmaster_start_time(), CAST(:since AS timestamptz)), false)
                   AS spared
        FROM pages p LEFT JOIN workers w ON w.incarnation = p.incarnation
        WHERE p.state = 'running' AND {LEASE_VOID} AND (w.state = 'stopped' OR (
              pg_postmaster_start_time() <= now() - make_interval(secs => :timeout)
              AND (CAST(:since AS timestamptz) IS NULL OR :since <= now() - make_interval(secs => :grace))))
        ORDER BY p.id LIMIT :limit"""
    values = {"timeout": heartbeat_timeout, "limit": limit, "since": since, "grace": grace}
    rows = session.execute(text(query), values).all()
    suspects = [row.id for row in rows if row.gone and not row.spared and row.losses >= EXCLUSIVE_AFTER]
    proofs = _proofs(session, suspects)
    settlements: list[Settlement] = []
    for row in rows:
        lost = row.gone and not row.spared
        exclusive = row.losses >= EXCLUSIVE_AFTER
        earlier = proofs.get(row.id, set())
        poison = lost and exclusive and len(earlier | {row.incarnation}) >= PROOFS
        error = PoisonPage("the page ended two workers that ran nothing else") if poison else WorkerLost()
        settlements.append(
            Settlement(
                page_id=row.id,
                fence=row.fence,
                job_id=row.job_id,
                item_id=row.item_id,
                attempt=row.attempt,
                state=PageState.DEAD if poison else PageState.READY,
                body=outcomes.error_body(error) if poison else "{}",
                code=error.code if lost else None,
                detail=error.detail,
                incarnation=row.incarnation,
                exclusive=exclusive,
                swept=True,
                lost=lost,
            )
        )
    ours = settle(session, settlements, heartbeat_timeout) if settlements else set[int]()
    done = [s for s in settlements if s.page_id in ours]
    poisoned = sum(s.state == PageState.DEAD for s in done)
    lost = sum(s.lost for s in done)
    return Swept(lost, len(done) - lost, poisoned)


def _proofs(session: Session, page_ids: Sequence[int]) -> dict[int, set[UUID]]:
    """Incarnations that each page has ended while it ran alone, since it was last redriven."""
    query = """
        SELECT a.page_id, a.incarnation
        FROM attempts a JOIN pages p ON p.id = a.page_id LEFT JOIN redrives r ON r.id = p.redrive_id
        WHERE a.page_id = ANY(:ids) AND a.exclusive = 1 AND a.code = ANY(:codes)
          AND (r.id IS NULL OR a.ended_at > r.created_at)"""
    found: dict[int, set[UUID]] = {}
    for row in session.execute(
        text(query), {"ids": list(page_ids), "codes": [WorkerLost.code, EngineCrashed.code]}
    ):
        found.setdefault(row.page_id, set()).add(row.incarnation)
    return found


def messages(
    session: Session,
    heartbeat_timeout: float,
    *,
    queue_empty: bool,
    broker_restarted: bool,
    drain_seconds: float,
    limit: int = 5000,
) -> int:
    """Return dispatched pages whose message must be lost; returns how many there were.

    Lost are: with the queue empty, those older than 2 s x 2^redispatches; after a restart of the broker, those older
    than 2 s; always, those older than max(60 s, 3 x the measured drain). A batch that a live worker names is not
    lost: it waits there.
    """
    condition = """
        p.state = 'dispatched' AND p.since < now() - make_interval(secs => CASE
            WHEN :restarted THEN 2 WHEN :empty THEN least(2 * pow(2, least(p.redispatches, 10)), :ceiling)
            ELSE :ceiling END)
        AND NOT EXISTS (
            SELECT 1 FROM workers w WHERE p.batch_id = ANY(w.batches)
            AND w.state <> 'stopped' AND w.heartbeat_at > now() - make_interval(secs => :timeout)
        )"""
    query = f"""
        WITH lost AS (
            SELECT p.id FROM pages p WHERE {condition} ORDER BY p.id LIMIT :limit FOR NO KEY UPDATE
        )
        UPDATE pages p SET state = 'ready', batch_id = NULL, since = now(), redispatches = least(p.redispatches + 1, 1000)
        FROM lost WHERE p.id = lost.id AND {condition}
        RETURNING 1"""
    values = {
        "empty": queue_empty,
        "restarted": broker_restarted,
        "ceiling": max(60.0, 3 * drain_seconds),
        "timeout": heartbeat_timeout,
        "limit": limit,
    }
    return len(session.execute(text(query), values).all())
