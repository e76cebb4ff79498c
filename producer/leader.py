"""Leadership: a session advisory lock. The session is the leadership: who loses it can write nothing more."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import psycopg
import structlog
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from ocrfleet import telemetry
from ocrfleet.db import driver_url
from ocrfleet.processes import spare_collector
from ocrfleet.settings import Settings
from ocrfleet.store import dispatch
from ocrfleet.store.notify import WORK
from producer.broker import Broker, BrokerUnavailable
from producer.dispatch import Dispatcher
from producer.events import EventApplier
from producer.sweep import Sweeper

log = structlog.get_logger()

LOCK = 0x6F637264  # "ocrd"
_STANDBY = 0.5
_AFTER_ERROR = 0.5
_PACE = 0.02


class Leader:
    """One candidate. `run` dispatches and sweeps while it holds the lock, and stands by while it does not."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # A frozen leader must lose its lock by the server's own clock, and never wait long for a row.
        timeout = int(settings.leader_timeout * 1000)
        options = {
            "idle_session_timeout": timeout,
            "idle_in_transaction_session_timeout": timeout,
            "lock_timeout": 2000,
            # It only ever takes the first rows of an index; statistics older than the queue must not talk it into
            # sorting all of it.
            "enable_bitmapscan": "off",
            "enable_seqscan": "off",
            # What costs much by the estimate is done after a few rows all the same.
            "jit": "off",
        }
        self._engine = create_engine(
            driver_url(settings.database_url),
            poolclass=pool.NullPool,
            hide_parameters=True,
            connect_args={
                "application_name": "ocrfleet-leader",
                "connect_timeout": 5,
                "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
                "tcp_user_timeout": timeout,
            },
        )
        self._broker = Broker(settings)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`: lead, or stand by; a lost session only means another try."""
        while not stop.is_set():
            try:
                with self._engine.connect() as connection:
                    if self._acquire(connection):
                        log.info("leading")
                        self._lead(connection, stop)
            except (DBAPIError, psycopg.Error) as exc:
                log.warning("leadership_lost", error=str(exc.orig if isinstance(exc, DBAPIError) else exc))
            stop.wait(_STANDBY)
        self._broker.close()
        self._engine.dispose()

    def _acquire(self, connection: Connection) -> bool:
        with connection.begin():
            if not connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}).scalar():
                return False
            connection.execute(text(f"LISTEN {WORK}"))
        return True

    def _lead(self, connection: Connection, stop: threading.Event) -> None:
        @contextmanager
        def transaction() -> Generator[Session]:
            with Session(connection, autoflush=False) as session, session.begin():
                yield session

        dispatcher = Dispatcher(self._settings, self._broker, transaction)
        sweeper = Sweeper(self._settings, self._broker, transaction)
        events = EventApplier(self._settings, transaction)
        next_sweep = 0.0
        while not stop.is_set():
            try:
                if time.monotonic() >= next_sweep:
                    # Set first: a sweep that fails must not keep the dispatcher from its round.
                    next_sweep = time.monotonic() + self._settings.sweep_interval
                    sweeper.tick()
                events.tick()
                began = time.monotonic()
                if dispatcher.round() == 0:
                    with transaction() as session:
                        ready_in = dispatch.next_ready(session)
                    self._wait(connection, ready_in)
                    # Every settle notifies: a busy fleet is refilled at a steady pace, an idle one at once.
                    stop.wait(max(0.0, began + _PACE - time.monotonic()))
            except BrokerUnavailable:
                self._wait(connection, _AFTER_ERROR)
            except DBAPIError as exc:
                if exc.connection_invalidated:
                    raise
                log.warning("round_failed", error=str(exc.orig))
                self._wait(connection, _AFTER_ERROR)

    def _wait(self, connection: Connection, seconds: float | None) -> None:
        """Until a notification, the next backoff's end, or the next poll."""
        poll = self._settings.poll_interval
        timeout = poll if seconds is None else min(poll, seconds)
        driver: Any = connection.connection.driver_connection
        try:
            for _ in driver.notifies(timeout=timeout, stop_after=1):
                pass
        except psycopg.Error:
            # SQLAlchemy did not see it happen, and would roll back on a connection that is gone.
            connection.invalidate()
            raise


def main(config: Settings, stop: threading.Event) -> int:
    """The leader's process: a candidate, until `stop`."""
    telemetry.configure(config, "producer-dispatch")
    leader = Leader(config)
    spare_collector()
    leader.run(stop)
    return 0
