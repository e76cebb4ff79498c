"""`python -m worker`: one engine, one runner, one Celery worker with a pool of threads."""

import sys
from typing import Any

import structlog
from celery import signals

from ocrfleet import blobs, db, telemetry
from ocrfleet.messages import QUEUES
from ocrfleet.processes import spare_collector
from ocrfleet.settings import Settings, settings
from worker import engines, tasks
from worker.app import create_app
from worker.heartbeat import Pulse
from worker.runner import Runner

log = structlog.get_logger()

ENGINE_DEATH = 86
"""Exit code that tells the supervisor apart a dead engine from a dead worker."""


def main(config: Settings) -> int:
    """Run until a signal; SIGTERM drains."""
    telemetry.configure(config, "worker")
    # Each slot may claim while the completer settles and the heart beats.
    database = db.connect(config, "ocrfleet-worker", pool_size=config.slots + 4)
    runner = Runner(config, database, blobs.connect(config), engines.load(config))
    info = runner.start()
    log.info(
        "engine_started", engine=info.name, model=info.model, revision=info.revision, device=config.device
    )
    died: list[int] = []
    pulse = Pulse(config, database, runner, on_engine_death=lambda: died.append(ENGINE_DEATH))
    app = create_app(config)
    tasks.register(app, runner)

    def drain(**_: Any) -> None:
        runner.drain()

    shutting_down: Any = signals.worker_shutting_down
    shutting_down.connect(drain, weak=False)
    pulse.start()
    spare_collector()
    worker: Any = app.Worker(
        pool="threads",
        concurrency=config.slots,
        hostname=f"{config.worker_name}@%h",
        queues=list(QUEUES.values()),
        without_gossip=True,
        without_mingle=True,
        task_events=True,
        loglevel="WARNING",
        quiet=True,
    )
    worker.start()
    runner.stop()
    pulse.stop()
    database.close()
    return died[0] if died else int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main(settings()))
