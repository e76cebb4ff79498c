"""What is measured while things die: each recovery, and the bounds of the window and of the broker's memory."""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import httpx
import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ocrfleet.states import EXCLUSIVE_AFTER
from tests.chaos.rig import BATCH, Rig

LATE = 10.0
"""Seconds after which a recovery is looked into."""
LOOK = 0.05
"""Seconds between two looks at what has not recovered."""
SAMPLE = 0.25
ALIVE, STALE = timedelta(seconds=8), timedelta(seconds=7)
"""For how long a heartbeat counts; for how long a leader that freezes may go by an old count of workers."""
BROKER_ROOM = 16 * 1024 * 1024
"""Bytes that the broker may use beyond what it needs when idle: a window of messages is far below."""


class Sign(Protocol):
    """What must be seen for a victim to have recovered."""

    def seen(self, session: Session) -> bool: ...


@dataclass
class Kill:
    """One kill, and what became of it."""

    victim: str
    in_flight: int
    counts: bool
    pages: int = 0
    """That the victim was running."""
    alone: int = 0
    """Of those, pages whose second loss this was: they wait for a worker of their own, and are not waited for here."""
    at: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    """To its recovery."""
    late: str = ""
    """Where its pages stood when it had taken too long."""


class Claimed:
    """Every page that the dead worker was running has been claimed again, or has ended."""

    def __init__(self, kill: Kill, leases: Sequence[tuple[int, int]]) -> None:
        self._kill = kill
        self._left = dict(leases)
        kill.pages = len(self._left)

    def seen(self, session: Session) -> bool:
        query = """
            SELECT p.id, p.state = 'ready' AND p.losses >= :exclusive AS alone
            FROM pages p JOIN unnest(CAST(:ids AS bigint[]), CAST(:attempts AS integer[])) AS d(id, attempt) USING (id)
            JOIN jobs j ON j.id = p.job_id
            WHERE p.attempt > d.attempt OR p.state IN ('succeeded', 'dead', 'canceled')
               OR (p.state = 'ready' AND (p.losses >= :exclusive OR j.state NOT IN ('queued', 'running')))"""
        values = {
            "ids": list(self._left),
            "attempts": list(self._left.values()),
            "exclusive": EXCLUSIVE_AFTER,
        }
        for row in session.execute(text(query), values):
            del self._left[row.id]
            self._kill.alone += row.alone
        if self._left and not self._kill.late and time.monotonic() - self._kill.at > LATE:
            self._kill.late = self._where(session)
        return not self._left

    def _where(self, session: Session) -> str:
        """Where the pages stand that nobody has claimed yet."""
        query = """
            SELECT p.state, j.state AS job, t.name, count(*) AS pages, max(p.losses) AS losses,
                   extract(epoch FROM now() - max(p.since))::numeric(6, 1) AS seconds,
                   (SELECT count(*) FROM pages o WHERE o.job_id = j.id AND o.state = 'ready') AS ready,
                   (SELECT count(*) FROM jobs o WHERE o.tenant_id = t.id AND o.state IN ('queued', 'running')
                    AND o.created_at < j.created_at) AS older_jobs
            FROM pages p JOIN jobs j ON j.id = p.job_id JOIN tenants t ON t.id = j.tenant_id
            WHERE p.id = ANY(:ids) GROUP BY p.state, j.id, t.id"""
        rows = session.execute(text(query), {"ids": list(self._left)})
        return "; ".join(
            f"{row.pages} {row.state} for {row.seconds} s (losses {row.losses}) in a {row.job} job of {row.name} "
            f"with {row.ready} ready, {row.older_jobs} older jobs"
            for row in rows
        )


class Dispatched:
    """A page that was dispatched after the kill is being read."""

    def __init__(self, after: int) -> None:
        self._after = after

    def seen(self, session: Session) -> bool:
        query = "SELECT 1 FROM pages WHERE state = 'running' AND batch_id > :after LIMIT 1"
        return session.execute(text(query), {"after": self._after}).scalar() is not None


class Restarted:
    """The database has started anew, and a page has been claimed in it since."""

    def __init__(self) -> None:
        self._killed = datetime.now(UTC)

    def seen(self, session: Session) -> bool:
        query = """
            SELECT 1 FROM pages WHERE state = 'running' AND since > pg_postmaster_start_time()
            AND pg_postmaster_start_time() > :killed LIMIT 1"""
        return session.execute(text(query), {"killed": self._killed}).scalar() is not None


class Watch:
    """Two threads: one looks at the record, the other asks the API. `with` runs them."""

    def __init__(self, rig: Rig) -> None:
        self.kills: list[Kill] = []
        self.breaches: list[str] = []
        self.peaks = {"pages in flight": 0, "messages in flight": 0, "bytes of the broker": 0}
        self.far_deaths = 0
        self.store_faults = 0
        """Reads that the far side's store refused, cut off or kept waiting."""
        self.suspects = 0
        """Pages that wait for a worker of their own."""
        self._rig = rig
        self._open: dict[int, tuple[Kill, Sign | None]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._look, self._ask)]
        self._earlier: tuple[datetime, int] | None = None
        self._idle_broker = 0

    def __enter__(self) -> "Watch":
        with redis.Redis.from_url(self._rig.broker_url) as broker:
            self._idle_broker = _memory(broker)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def add(self, kill: Kill, sign: Sign | None) -> Kill:
        """From now on this kill waits for its recovery; without a sign, for a good answer of the API."""
        with self._lock:
            self.kills.append(kill)
            self._open[id(kill)] = kill, sign
        return kill

    def recovered(self, kill: Kill, patience: float) -> bool:
        """Wait for it; what takes longer than `patience` is a breach."""
        end = time.monotonic() + patience
        while kill.seconds is None and time.monotonic() < end:
            self._stop.wait(LOOK)
        if kill.seconds is None:
            with self._lock:
                self._open.pop(id(kill), None)
            self.breaches.append(f"{kill.victim} had not recovered {patience:g} s after its kill")
        return kill.seconds is not None

    def in_flight(self) -> int:
        """Pages dispatched or running by the record; 0 when nobody can tell."""
        with suppress(SQLAlchemyError), self._rig.record.transaction() as session:
            query = "SELECT count(*) FROM pages WHERE state IN ('dispatched', 'running')"
            return session.execute(text(query)).scalar_one()
        return 0

    def _waiting(self, *, for_api: bool) -> list[tuple[Kill, Sign | None]]:
        with self._lock:
            return [one for one in self._open.values() if (one[1] is None) == for_api]

    def _done(self, kill: Kill) -> None:
        kill.seconds = time.monotonic() - kill.at
        with self._lock:
            self._open.pop(id(kill), None)

    def _look(self) -> None:
        next_sample = 0.0
        while not self._stop.wait(LOOK):
            # Whatever the database is going through, the next look may find it well.
            with suppress(SQLAlchemyError), self._rig.record.transaction() as session:
                for kill, sign in self._waiting(for_api=False):
                    if sign and sign.seen(session):
                        self._done(kill)
            if time.monotonic() >= next_sample:
                next_sample = time.monotonic() + SAMPLE
                with suppress(SQLAlchemyError), self._rig.record.transaction() as session:
                    self._sample(session)
                with suppress(redis.RedisError):
                    self._sample_broker()

    def _ask(self) -> None:
        headers = {"Authorization": f"Bearer {next(iter(self._rig.keys.values()))}"}
        while not self._stop.wait(LOOK):
            waiting = self._waiting(for_api=True)
            if not waiting:
                continue
            with suppress(httpx.HTTPError):
                answer = httpx.get(
                    f"{self._rig.url}/v1/jobs?page_size=1", headers=headers, timeout=2.0, trust_env=False
                )
                if answer.status_code == 200:
                    for kill, _ in waiting:
                        self._done(kill)

    def _sample(self, session: Session) -> None:
        """What is in flight never grows beyond the window; between two dispatches it only shrinks."""
        query = """
            SELECT now() AS at, count(*) AS pages, count(DISTINCT batch_id) AS messages,
                   (SELECT count(*) FROM workers WHERE heartbeat_at > :since) AS workers,
                   (SELECT count(*) FROM jobs j JOIN pages p ON p.job_id = j.id AND p.state = 'ready' AND p.losses >= 2
                    WHERE j.finished_at IS NULL) AS suspects
            FROM pages WHERE state IN ('dispatched', 'running')"""
        before, earlier = self._earlier or (datetime.now(UTC), 0)
        row = session.execute(text(query), {"since": before - ALIVE - STALE}).one()
        window = self._rig.room * row.workers
        if row.messages > max(window, earlier):
            self.breaches.append(f"{row.messages} messages in flight, {earlier} before, window {window}")
        if row.pages > row.messages * BATCH:
            self.breaches.append(f"{row.pages} pages in {row.messages} messages of {BATCH} at most")
        self._earlier, self.suspects = (row.at, row.messages), row.suspects
        self._peak("pages in flight", row.pages)
        self._peak("messages in flight", row.messages)

    def _sample_broker(self) -> None:
        with redis.Redis.from_url(self._rig.broker_url, socket_timeout=1.0) as broker:
            used = _memory(broker)
        self._peak("bytes of the broker", used)
        if used > self._idle_broker + BROKER_ROOM:
            self.breaches.append(f"the broker uses {used:,} bytes, idle it was {self._idle_broker:,}")

    def _peak(self, name: str, value: int) -> None:
        self.peaks[name] = max(self.peaks[name], value)


def leases(session: Session, pid: int) -> tuple[UUID | None, list[Any]]:
    """The incarnation of a worker's process, and what it runs: rows of id, attempt, losses."""
    query = "SELECT incarnation FROM workers WHERE pid = :pid ORDER BY started_at DESC LIMIT 1"
    incarnation = session.execute(text(query), {"pid": pid}).scalar()
    query = """
        SELECT id, attempt, losses FROM pages
        WHERE state IN ('dispatched', 'running') AND incarnation = :incarnation ORDER BY id"""
    return incarnation, list(session.execute(text(query), {"incarnation": incarnation}))


def _memory(broker: redis.Redis) -> int:
    info: Any = broker.info("memory")
    return int(info["used_memory"])
