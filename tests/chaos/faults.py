"""What can be done to the fleet: processes killed or frozen, the broker emptied, lines broken, the store spoilt."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress

import psutil
import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ocrfleet.messages import PageBatch
from ocrfleet.states import EXCLUSIVE_AFTER, Lane
from producer.broker import Broker, BrokerUnavailable
from tests.chaos.clients import rest
from tests.chaos.rig import FarSide, Rig
from tests.chaos.schedule import Step
from tests.chaos.watch import Claimed, Dispatched, Kill, Restarted, Watch, leases

ENOUGH = 500
"""Pages in flight from which a kill counts."""
FILLING = 6.0
"""Seconds to wait for so many."""


class Faults:
    """Acts by name, on the victims of the moment. `far` is there during mayhem only."""

    def __init__(self, rig: Rig, watch: Watch) -> None:
        self.far: FarSide | None = None
        self.timed = True
        """Whether kills count."""
        self._rig = rig
        self._watch = watch
        self._frozen: set[threading.Timer] = set()
        self._acts: dict[str, Callable[[Step], Kill | None]] = {
            "worker": self._kill_worker,
            "producer": self._kill_producer,
            "api": self._kill_api,
            "broker": self._kill_broker,
            "postgres": self._kill_postgres,
            "freeze worker": lambda step: self._freeze(self._worker(step.choice), step.seconds),
            # With its children: a dispatcher that loses the lock which it leads by, the backends of the database.
            "freeze producer": lambda step: self._freeze(self._rig.pid("producer"), step.seconds),
            "freeze postgres": lambda step: self._freeze(self._rig.pid("postgres"), step.seconds),
            "freeze broker": lambda step: self._freeze(self._rig.pid("valkey"), step.seconds),
            "freeze api": lambda step: self._freeze(self._rig.pid("api"), step.seconds),
            "stop worker": lambda step: self._signal(self._worker(step.choice), signal.SIGTERM),
            "stop postgres": lambda _: self._signal(self._rig.pid("postgres"), signal.SIGQUIT),
            "flush broker": lambda _: self._flush(),
            "shrink broker": lambda _: self._shrink(),
            "repeat messages": self._repeat_messages,
            "end backends": lambda _: self._end_backends(),
            "silence lines": lambda step: self._break_lines(step, silent=True),
            "cut lines": lambda step: self._break_lines(step, silent=False),
            "spoil store": self._spoil_store,
        }

    def do(self, step: Step) -> Kill | None:
        """Do it; what was killed, if anything was."""
        return self._acts[step.act](step)

    def thaw(self) -> None:
        """Wait until whatever was frozen or silenced goes on."""
        for timer in list(self._frozen):
            timer.join()

    def _new(self, victim: str) -> Kill:
        """A kill about to happen; it counts with enough pages in flight."""
        in_flight = self._watch.in_flight()
        for _ in range(round(FILLING / 0.1) if self.timed else 0):
            if in_flight >= ENOUGH:
                break
            rest(0.1)
            in_flight = self._watch.in_flight()
        return Kill(victim, in_flight, counts=self.timed and in_flight >= ENOUGH)

    def _kill(self, kill: Kill, pid: int | None) -> bool:
        """SIGKILL, and it is gone; False if there was nothing to kill."""
        if pid is None:
            return False
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            kill.at = time.monotonic()
            process.kill()
            with suppress(psutil.TimeoutExpired):
                process.wait(5.0)
            return True
        return False

    def _worker(self, choice: int) -> int | None:
        """One of those that run pages now, if any does."""
        running = [pid for name in self._rig.workers if (pid := self._rig.pid(name))]
        busy: list[int] = []
        with suppress(SQLAlchemyError), self._rig.record.transaction() as session:
            for pid in running:
                _, pages = leases(session, pid)
                # A worker alone with a page that has ended another so is proof of poison by the protocol's own rule:
                # no fault of ours may look like that page's.
                if pages and not (len(pages) == 1 and pages[0].losses > EXCLUSIVE_AFTER):
                    busy.append(pid)
        chosen = busy or running
        return chosen[choice % len(chosen)] if chosen else None

    def _kill_worker(self, step: Step) -> Kill | None:
        kill = self._new("worker")
        pid = self._worker(step.choice)
        if not self._kill(kill, pid):
            return None
        held: list[tuple[int, int]] = []
        with suppress(SQLAlchemyError), self._rig.record.transaction() as session:
            _, pages = leases(session, pid or 0)
            held = [(page.id, page.attempt) for page in pages]
        kill.counts = kill.counts and bool(held)
        return self._watch.add(kill, Claimed(kill, held))

    def _kill_producer(self, step: Step) -> Kill | None:
        """The whole of it, or its dispatcher alone."""
        kill = self._new("producer")
        pid = self._rig.pid("producer")
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(pid).children() if pid and step.choice == 0 else []
            pid = next((child.pid for child in children if child.cmdline()[-1:] == ["dispatch"]), pid)
        return self._watch.add(kill, Dispatched(self._last_batch())) if self._kill(kill, pid) else None

    def _kill_api(self, _: Step) -> Kill | None:
        kill = self._new("api")
        return self._watch.add(kill, None) if self._kill(kill, self._rig.pid("api")) else None

    def _kill_broker(self, step: Step) -> Kill | None:
        """It comes back empty; or comes back and is emptied again."""
        kill = self._new("broker")
        if not self._kill(kill, self._rig.pid("valkey")):
            return None
        if step.choice == 0:
            while not self._flushed():
                rest(0.05)
        return self._watch.add(kill, Dispatched(self._last_batch()))

    def _kill_postgres(self, _: Step) -> Kill | None:
        kill = self._new("postgres")
        sign = Restarted()
        return self._watch.add(kill, sign) if self._kill(kill, self._rig.pid("postgres")) else None

    def _last_batch(self) -> int:
        """The last number given to a batch so far."""
        while True:
            with suppress(SQLAlchemyError), self._rig.record.transaction() as session:
                return session.execute(text("SELECT last_value FROM page_batches")).scalar_one()
            rest(0.05)

    def _flushed(self) -> bool:
        with (
            suppress(redis.RedisError),
            redis.Redis.from_url(self._rig.broker_url, socket_timeout=1.0) as broker,
        ):
            return bool(broker.flushall())
        return False

    def _flush(self) -> None:
        self._flushed()

    def _shrink(self) -> None:
        """4 MB, of which half are in use when it is idle; until it is killed."""
        with (
            suppress(redis.RedisError),
            redis.Redis.from_url(self._rig.broker_url, socket_timeout=1.0) as broker,
        ):
            broker.config_set("maxmemory", "4mb")

    def _repeat_messages(self, _: Step) -> None:
        """What is under way is sent once more in another order, and with the fences before."""
        query = """
            SELECT id, fence, batch_id FROM pages WHERE state IN ('dispatched', 'running') AND fence > 1
            ORDER BY id DESC LIMIT 200"""
        with (
            suppress(SQLAlchemyError, BrokerUnavailable),
            closing(Broker(self._rig.broker_settings)) as broker,
        ):
            with self._rig.record.transaction() as session:
                rows = session.execute(text(query)).all()
            for older in (0, 1):
                for row in rows:
                    broker.publish(PageBatch(row.batch_id, Lane.BULK, [(row.id, row.fence - older)]))

    def _signal(self, pid: int | None, number: int) -> None:
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _freeze(self, pid: int | None, seconds: float) -> None:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid or 0)
            for one in (process, *process.children()) if pid else ():
                self._signal(one.pid, signal.SIGSTOP)
                self._later(seconds, lambda pid=one.pid: self._signal(pid, signal.SIGCONT))

    def _end_backends(self) -> None:
        """Every third connection of the services ends, wherever it stands."""
        query = """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE application_name LIKE 'ocrfleet-%' AND pid % 3 = 0"""
        with suppress(SQLAlchemyError), self._rig.record.transaction() as session:
            session.execute(text(query))

    def _break_lines(self, step: Step, *, silent: bool) -> None:
        """Those of the far side: silent is a black hole, otherwise each connection breaks and none is made."""
        if self.far is None:
            return
        line = self.far.lines[step.choice % 2]
        line.silence() if silent else line.cut()
        self._later(step.seconds, line.restore)

    def _spoil_store(self, step: Step) -> None:
        """The far side's: each read is refused, ends early, or hangs."""
        if self.far is None:
            return
        store = self.far.store
        store.mood = store.MOODS[step.choice % len(store.MOODS)]
        self._later(step.seconds, store.recover)

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        def run() -> None:
            what()
            self._frozen.discard(timer)

        timer = threading.Timer(seconds, run)
        timer.daemon = True
        self._frozen.add(timer)
        timer.start()
