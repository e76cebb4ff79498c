"""`python -m worker`: one engine, one runner, one Celery worker with a pool of threads."""

import os
import sys
import threading
from typing import Any
from uuid import UUID, uuid4

import structlog
from celery import signals
from sqlalchemy.exc import SQLAlchemyError

from ocrfleet import blobs, db, failpoints, telemetry
from ocrfleet.db import Database
from ocrfleet.errors import FleetError, StartFailed
from ocrfleet.messages import QUEUES
from ocrfleet.processes import spare_collector
from ocrfleet.settings import Settings, settings
from ocrfleet.states import WorkerState
from ocrfleet.store import workers
from worker import engines, tasks
from worker.app import create_app
from worker.cancels import Cancels
from worker.engines.base import Engine
from worker.heartbeat import Pulse
from worker.identity import node_name, registration
from worker.intake import Intake
from worker.locks import WorkerLock
from worker.restarts import BARREN_DEATH, ENGINE_DEATH, REFUSED, start_failure
from worker.runner import Runner

log = structlog.get_logger()

LEAVE = 10.0
"""Seconds beyond `drain_timeout` that a process with a dead engine takes at most to leave."""


def main(config: Settings) -> int:
    """Run until a signal; SIGTERM drains. The exit codes are those of worker/restarts.py."""
    telemetry.configure(config, "worker")
    failpoints.arm(config.failpoints)
    # Each slot may claim while the completer settles and the heart beats.
    database = db.connect(config, "ocrfleet-worker", pool_size=config.slots + 4)
    store = blobs.connect(config)
    runner: Runner | None = None
    try:
        lock = WorkerLock(config)
        _bury(database, lock.succeed())
        runner = Runner(config, database, store, _engine(config))
        lock.sign_as(runner.incarnation)
        info = runner.start()
    except FleetError as exc:
        return _not_started(config, database, runner, exc)
    log.info(
        "engine_started", engine=info.name, model=info.model, revision=info.revision, device=config.device
    )
    died: list[int] = []

    def engine_died() -> None:
        died.append(ENGINE_DEATH if runner.succeeded else BARREN_DEATH)
        _leave_within(config.drain_timeout + LEAVE, died[0])

    pulse = Pulse(config, database, runner, lock, on_engine_death=engine_died)
    app = create_app(config)
    tasks.register(app, runner)

    def drain(**_: Any) -> None:
        runner.drain()

    shutting_down: Any = signals.worker_shutting_down
    shutting_down.connect(drain, weak=False)
    pulse.start()
    cancels = Cancels(database, runner)
    cancels.start()
    spare_collector()
    worker: Any = app.Worker(
        pool="threads",
        concurrency=config.slots,
        hostname=node_name(config),
        queues=list(QUEUES.values()),
        without_gossip=True,
        without_mingle=True,
        task_events=True,
        loglevel="WARNING",
        quiet=True,
    )
    runner.on_intake(Intake(app, worker))
    worker.start()
    cancels.stop()
    runner.stop()
    pulse.stop()
    database.close()
    return died[0] if died else int(worker.exitcode or 0)


def _bury(database: Database, predecessor: UUID | None) -> None:
    """What a worker of this name held when it was killed goes back at once, and does not wait for this engine."""
    if predecessor is None:
        return
    try:
        with database.transaction() as session:
            workers.bury(session, predecessor)
    except SQLAlchemyError as exc:
        # Its silence will tell.
        log.warning("not_recorded", error=str(exc))


def _engine(config: Settings) -> Engine:
    try:
        return engines.load(config)
    except (ImportError, ValueError) as exc:
        raise StartFailed(f"the engine {config.engine} cannot be loaded: {exc}") from exc


def _not_started(config: Settings, database: Database, runner: Runner | None, error: FleetError) -> int:
    """Say in the log and in the record that the engine did not start, and free what it took."""
    code = start_failure(error)
    state = WorkerState.REFUSED if code == REFUSED else WorkerState.STOPPED
    log.error(
        "engine_not_started", engine=config.engine, device=config.device, code=error.code, error=error.detail
    )
    _leave_within(config.drain_timeout + LEAVE, code)
    try:
        said = f"{error.code}: {error.detail}"
        with database.transaction() as session:
            workers.register(session, registration(config, uuid4(), None, state, said))
        if runner:
            runner.stop()
    except SQLAlchemyError as exc:
        log.warning("not_recorded", error=str(exc))
    except Exception:
        # Half an engine may not know how to stop: what it leaves behind its supervisor ends.
        log.exception("engine_not_stopped")
    database.close()
    return code


def _leave_within(seconds: float, code: int) -> None:
    """Whatever hangs in an engine that is dead, its process does not."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main(settings()))
