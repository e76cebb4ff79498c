"""Heartbeats: the worker's leases live as long as this thread can write them."""

import os
import signal
import threading
from collections.abc import Callable

import structlog
from sqlalchemy.exc import DBAPIError

from ocrfleet.db import Database
from ocrfleet.settings import Settings
from ocrfleet.states import WorkerState
from ocrfleet.store import workers
from ocrfleet.store.workers import Heartbeat
from worker.identity import registration
from worker.locks import WorkerLock
from worker.runner import Runner

log = structlog.get_logger()


class Pulse:
    """Registers the worker, beats, aborts canceled pages, tells of dead workers beside it; gives up with its engine."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        runner: Runner,
        lock: WorkerLock,
        on_engine_death: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._database = database
        self._runner = runner
        self._lock = lock
        self._on_engine_death = on_engine_death
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Register, then beat; raises if the database cannot be reached for the registration."""
        self._register()
        self._thread.start()

    def beat(self) -> None:
        """One heartbeat; registers again if the record has forgotten this worker."""
        runner = self._runner
        heartbeat = Heartbeat(
            state=runner.state,
            batches=runner.held(),
            in_flight=runner.in_flight,
            pages_per_second=runner.rate.sample(),
            last_error=runner.last_error,
        )
        with self._database.transaction() as session:
            known = workers.beat(session, runner.incarnation, heartbeat)
            aborted = workers.to_abort(session, runner.incarnation)
        if not known:
            self._register()
        runner.abort(aborted)
        for incarnation in self._lock.dead():
            with self._database.transaction() as session:
                workers.bury(session, incarnation)

    def stop(self) -> None:
        """The last heartbeat: nothing is held any more."""
        self._stop.set()
        self._thread.join()
        heartbeat = Heartbeat(WorkerState.STOPPED, [], 0, 0.0, self._runner.last_error)
        try:
            with self._database.transaction() as session:
                workers.beat(session, self._runner.incarnation, heartbeat)
        except DBAPIError as exc:
            log.warning("heartbeat_failed", error=str(exc.orig))

    def _run(self) -> None:
        alive = True
        while not self._stop.wait(self._settings.heartbeat_interval):
            try:
                self.beat()
                alive = self._runner.healthy()
            except DBAPIError as exc:
                log.warning("heartbeat_failed", error=str(exc.orig))
            except Exception:
                # A worker whose heart stopped would go on to claim pages and lose every one.
                log.exception("heartbeat_failed")
            if not alive:
                log.error("engine_dead")
                self._on_engine_death()
                os.kill(os.getpid(), signal.SIGTERM)
                return

    def _register(self) -> None:
        runner = self._runner
        with self._database.transaction() as session:
            workers.register(session, registration(self._settings, runner.incarnation, runner.info))
