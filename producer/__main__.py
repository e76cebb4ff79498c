"""`python -m producer`: expands, counts and purges here, and dispatches and sweeps in a process of its own.

The two are apart so that a long expansion never delays the dispatcher by a held interpreter lock.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from ocrfleet import blobs, db, failpoints, presign, telemetry
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import FleetError
from ocrfleet.processes import die_with_parent, spare_collector
from ocrfleet.settings import Settings, settings
from ocrfleet.store import control
from producer.batches import Batcher
from producer.count import Counter
from producer.deliver import Deliverer
from producer.expand import Expander
from producer.exports.run import Exporter
from producer.item_outputs import ItemWriter
from producer.leader import Leader
from producer.purge import Purger
from producer.rescan import Rescanner
from producer.uploads import clean as clean_uploads

log = structlog.get_logger()

INTERACTIVE_PREFIX = "interactive/"
_CLEAN_EVERY = 600.0
_CONTROL_POLL = 0.5
_AFTER_ERROR = 1.0


def clean_interactive(store: Blobs, bucket: str, now: datetime) -> int:
    """Remove synchronous inputs that are more than an hour old (their keys begin with the hour)."""
    newest = f"{INTERACTIVE_PREFIX}{now - timedelta(hours=2):%Y%m%d%H}0"
    removed = 0
    for info in store.scan(bucket, INTERACTIVE_PREFIX):
        if info.key >= newest:
            break
        store.remove(bucket, info.key)
        removed += 1
    return removed


def expand(config: Settings, database: Database, store: Blobs, stop: threading.Event) -> None:
    """Expand, count and purge until `stop`."""
    expander, counter = Expander(config, database, store), Counter(config, database, store)
    purger = Purger(config, database, store)
    exporter = Exporter(config, database, store)
    rescanner, writer = Rescanner(config, database, store), ItemWriter(config, database, store)
    threads = [
        threading.Thread(target=_loop, args=(expander.step, config.poll_interval, stop), name="expand"),
        threading.Thread(target=_loop, args=(counter.step, config.poll_interval, stop), name="count"),
        threading.Thread(
            target=_loop, args=(partial(drop_canceled, database), _CONTROL_POLL, stop), name="drop"
        ),
        threading.Thread(target=_loop, args=(purger.step, _CONTROL_POLL, stop), name="purge"),
        threading.Thread(target=_loop, args=(rescanner.step, _CONTROL_POLL, stop), name="rescan"),
        threading.Thread(target=_loop, args=(writer.step, _CONTROL_POLL, stop), name="outputs"),
        threading.Thread(target=_loop, args=(exporter.step, _CONTROL_POLL, stop), name="export"),
        threading.Thread(
            target=_loop, args=(Batcher(config, database, store).step, _CONTROL_POLL, stop), name="batches"
        ),
        threading.Thread(target=Deliverer(config, database).run, args=(stop,), name="deliver"),
    ]
    for thread in threads:
        thread.start()
    next_cleaning = time.monotonic() + _CLEAN_EVERY
    while not stop.wait(1.0):
        if time.monotonic() >= next_cleaning:
            next_cleaning = time.monotonic() + _CLEAN_EVERY
            try:
                clean_interactive(store, config.bucket, datetime.now(UTC))
            except FleetError as exc:
                log.warning("cleaning_failed", code=exc.code, error=exc.detail)
            clean_uploads(config, database, store, presign.connect(config))
    for thread in threads:
        thread.join()
    expander.close()
    counter.close()
    writer.close()
    exporter.close()


def drop_canceled(database: Database) -> bool:
    """Cancel some of what large jobs have queued that are being canceled; not with the leader, whom it would hold up."""
    with database.transaction() as session:
        return control.drop_canceled(session)


def _loop(step: Callable[[], object], poll: float, stop: threading.Event) -> None:
    """Run a step again and again, without a pause while it finds work."""
    while not stop.is_set():
        try:
            worked = step()
        except Exception:
            log.exception("step_failed")
            stop.wait(_AFTER_ERROR)
            continue
        if not worked:
            stop.wait(poll)


def main(argv: list[str]) -> int:
    """`dispatch` is the child's role; without one, both run."""
    config = settings()
    failpoints.arm(config.failpoints)
    stop = threading.Event()

    def on_signal(_number: int, _frame: object) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    if argv[1:] == ["dispatch"]:
        telemetry.configure(config, "producer-dispatch")
        leader = Leader(config)
        spare_collector()
        leader.run(stop)
        return 0
    telemetry.configure(config, "producer")
    # Here, since settings that are wrong must end the process and not a thread of it.
    database, store = db.connect(config, "ocrfleet-producer"), blobs.connect(config)
    worker = threading.Thread(target=expand, args=(config, database, store, stop), name="producer")
    worker.start()
    code = _supervise(stop)
    stop.set()
    worker.join()
    database.close()
    return code


def _supervise(stop: threading.Event) -> int:
    """Keep the dispatcher's process running; from the main thread, whose end is what ends the child."""
    while not stop.is_set():
        child = subprocess.Popen(
            [sys.executable, "-m", "producer", "dispatch"],
            preexec_fn=die_with_parent(),  # noqa: PLW1509 (one system call)
        )
        while child.poll() is None and not stop.wait(0.2):
            pass
        if child.poll() is None:
            child.terminate()
            child.wait()
        elif not stop.is_set():
            log.error("dispatcher_died", code=child.returncode)
            stop.wait(0.5)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
