"""The sweeper: returns what dead workers held and what the broker lost; keeps throughput and deadlines."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from ocrfleet import failpoints
from ocrfleet.settings import Settings
from ocrfleet.states import Lane
from ocrfleet.store import cache, control, dispatch, idempotency, jobs, redrives, sweep, usage, workers
from producer.broker import Broker, BrokerUnavailable

log = structlog.get_logger()

RESTART_SUSPICION = 3.0
"""Seconds after a restart of the broker during which what was dispatched before counts as lost."""
SAMPLE_EVERY = 3.0
FORGET_AFTER = 3600.0
EXPIRE_SECONDS = 0.2
"""In one sweep, for jobs past their deadline: the dispatcher waits meanwhile."""


class Sweeper:
    """Runs on the leader only. Every sweep repeats its conditions in the statements that write."""

    def __init__(
        self, settings: Settings, broker: Broker, transaction: Callable[[], AbstractContextManager[Session]]
    ) -> None:
        self._timeout = settings.heartbeat_timeout
        self._grace = 2 * settings.heartbeat_interval
        self._results_kept = settings.result_cache_days * 86400
        self._began: datetime | None = None
        self._thorough = False
        self._broker = broker
        self._transaction = transaction
        self._run_id: str | None = None
        self._suspect_until = 0.0

    def tick(self) -> None:
        """A dead worker's pages are looked for every time, the rest every other time."""
        self._thorough = not self._thorough
        if self._thorough:
            self.sweep()
        else:
            self.sweep_leases()
        self.redrive()

    def redrive(self) -> None:
        """Bring the next chunk of dead letters back, where somebody asked for it."""
        with self._transaction() as session:
            pages = redrives.step(session)
        if pages:
            log.info("redriven", pages=pages)
            failpoints.reach("redrive.chunk")

    def sweep(self) -> None:
        """One pass over leases, messages, deadlines and samples, each in its own short transaction."""
        self.sweep_leases()
        self._sweep_messages()
        self._expire()
        with self._transaction() as session:
            control.recall_paused(session)
        with self._transaction() as session:
            jobs.sample_throughput(session, SAMPLE_EVERY)
            workers.forget(session, FORGET_AFTER)
        with self._transaction() as session:
            cache.expire(session, self._results_kept)
        with self._transaction() as session:
            idempotency.sweep(session)
        with self._transaction() as session:
            usage.fold(session)

    def _expire(self) -> None:
        """Job by job, each in its transaction; what takes too long is left to the next sweep."""
        until, found = time.monotonic() + EXPIRE_SECONDS, True
        while found and time.monotonic() < until:
            with self._transaction() as session:
                found = control.expire(session)

    def sweep_leases(self) -> None:
        """Not before this session is two heartbeats old: whatever ended the one before may have hindered them too."""
        with self._transaction() as session:
            if self._began is None:
                self._began = sweep.clock(session)
            swept = sweep.leases(session, self._timeout, since=self._began, grace=self._grace)
        if swept.lost or swept.unheld or swept.poisoned:
            log.warning("leases_swept", lost=swept.lost, unheld=swept.unheld, poisoned=swept.poisoned)

    def _sweep_messages(self) -> None:
        try:
            run_id, empty = self._broker.status()
        except BrokerUnavailable:
            # Nothing can be said about its messages; once it is back, its run id tells.
            return
        if self._run_id not in (None, run_id):
            log.warning("broker_restarted", run_id=run_id)
            self._suspect_until = time.monotonic() + RESTART_SUSPICION
        self._run_id = run_id
        with self._transaction() as session:
            capacity = dispatch.capacity(session, self._timeout)
            pages = dispatch.load(session)[Lane.BULK].pages
            returned = sweep.messages(
                session,
                self._timeout,
                queue_empty=empty,
                broker_restarted=time.monotonic() < self._suspect_until,
                drain_seconds=pages / capacity.pages_per_second if capacity.pages_per_second else 0.0,
            )
        if returned:
            log.warning("messages_lost", pages=returned, queue_empty=empty)
