"""The producer but for its leader: expands, counts, writes, exports, delivers and cleans, a thread for each."""

import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from functools import partial

import structlog

from ocrfleet import blobs, db, telemetry
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.processes import die_with_parent
from ocrfleet.settings import Settings
from ocrfleet.store import control
from producer.batches import Batcher
from producer.cleaning import clean
from producer.count import Counter
from producer.crew import Crew, loop
from producer.deliver import Deliverer
from producer.expand import Expander
from producer.exports.run import AT_ONCE, Exporter
from producer.item_outputs import ItemWriter
from producer.purge import Purger
from producer.rescan import Rescanner

log = structlog.get_logger()

_CLEAN_EVERY = 600.0
_CONTROL_POLL = 0.5
_GRACE = 30.0
"""Seconds that the others have, when a thread has died, to end what they are at."""


def main(config: Settings, stop: threading.Event) -> int:
    """Work until `stop`, with the leader's process beside; 1 if a thread has died."""
    telemetry.configure(config, "producer")
    # Settings that are wrong end the process here.
    database, store = db.connect(config, "ocrfleet-producer"), blobs.connect(config)
    with ExitStack() as stack:
        stack.callback(database.close)
        crew = _begin(config, database, store, stop, stack)
        _supervise(stop)
        while not crew.join(_GRACE):
            if crew.died:
                # What is leased is another's when the lease runs out.
                os._exit(1)
    return int(crew.died)


def _begin(
    config: Settings, database: Database, store: Blobs, stop: threading.Event, stack: ExitStack
) -> Crew:
    expander, counter = Expander(config, database, store), Counter(config, database, store)
    writer, exporter = ItemWriter(config, database, store), Exporter(config, database, store)
    for one in (expander, counter, writer, exporter):
        stack.callback(one.close)
    steps = {
        "expand": (expander.step, config.poll_interval),
        "count": (counter.step, config.poll_interval),
        "drop": (partial(drop_canceled, database), _CONTROL_POLL),
        "purge": (Purger(config, database, store).step, _CONTROL_POLL),
        "rescan": (Rescanner(config, database, store).step, _CONTROL_POLL),
        "outputs": (writer.step, _CONTROL_POLL),
        **{f"export-{n}": (exporter.step, _CONTROL_POLL) for n in range(AT_ONCE)},
        "batches": (Batcher(config, database, store).step, _CONTROL_POLL),
    }
    runs = {name: partial(loop, step, poll, stop) for name, (step, poll) in steps.items()}
    runs["deliver"] = partial(Deliverer(config, database).run, stop)
    runs["clean"] = partial(_clean, config, database, store, stop)
    return Crew(runs, stop)


def _clean(config: Settings, database: Database, store: Blobs, stop: threading.Event) -> None:
    while not stop.wait(_CLEAN_EVERY):
        clean(config, database, store)


def drop_canceled(database: Database) -> bool:
    """Cancel some of what large jobs have queued that are being canceled; not with the leader, whom it would hold up."""
    with database.transaction() as session:
        return control.drop_canceled(session)


def _supervise(stop: threading.Event) -> None:
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
