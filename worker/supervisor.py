"""`python -m worker.supervisor --gpus …`: one pinned worker per device of this host, brought back when it ends.

It has one thread: a worker's death signal is tied to the thread that started it.
"""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ocrfleet import db, telemetry
from ocrfleet.errors import FleetError, ValidationFailed
from ocrfleet.processes import Wakeup, become_subreaper, die_with_parent, end_orphans
from ocrfleet.settings import Settings, child_environment, settings
from ocrfleet.states import WorkerState
from ocrfleet.store import workers
from worker import devices
from worker.devices import Device
from worker.identity import registration
from worker.locks import DeviceLock
from worker.restarts import BARREN_DEATHS, NO_DEVICE_LEFT, Restarts

log = structlog.get_logger()

WORKER = (sys.executable, "-m", "worker")
TICK = 0.05
GRACE = 10.0
"""Seconds beyond `drain_timeout` until a worker that drains is killed."""
RECORD_AGAIN = 10.0


class PinnedWorker:
    """The worker of one device, over its restarts."""

    def __init__(self, config: Settings, device: Device, command: Sequence[str] = WORKER) -> None:
        self.device = device
        self.due: float | None = 0.0
        """When it is to be started; None: its device is quarantined."""
        self.running: subprocess.Popen[bytes] | None = None
        self.restarts = Restarts()
        self.lock = DeviceLock(device)
        own = config.worker_name.partition("@")[0]
        engine = config.engine
        if "engine" not in config.model_fields_set and not device.is_cpu:
            engine = "vllm"
        name = f"{own}@{socket.gethostname()}-{device.label}"
        self.config = config.model_copy(update={"worker_name": name, "device": device.name, "engine": engine})
        self._command = list(command)
        self._started = 0.0

    @property
    def is_out(self) -> bool:
        """Quarantined, or waiting after a refusal."""
        return self.running is None and (self.due is None or self.restarts.refused)

    def start(self) -> None:
        config = self.config
        # Complete before Python starts, and so before anything can import torch.
        environment = child_environment(
            CUDA_VISIBLE_DEVICES=self.device.visible,
            # The order in which nvidia-smi counts; CUDA's own puts the fastest first.
            CUDA_DEVICE_ORDER="PCI_BUS_ID",
            OCRFLEET_DEVICE=config.device,
            OCRFLEET_ENGINE=config.engine,
            OCRFLEET_WORKER_NAME=config.worker_name,
        )
        self._started = time.monotonic()
        try:
            self.running = subprocess.Popen(  # noqa: S603  the command is ours
                self._command,
                env=environment,
                stdin=subprocess.DEVNULL,
                # Its own group: a terminal's Ctrl-C passes it by, and what it leaves behind can be ended.
                process_group=0,
                preexec_fn=die_with_parent(),  # noqa: PLW1509  one thread
            )
        except OSError as exc:
            self._ended(1, str(exc))
            return
        log.info("worker_started", worker=config.worker_name, pid=self.running.pid)

    def signal(self, number: int) -> None:
        if self.running:
            self.running.send_signal(number)

    def reap(self) -> bool:
        """Whether it has ended since the last call; what is left of its process group is ended too."""
        if self.running is None or (code := self.running.poll()) is None:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.running.pid, signal.SIGKILL)
        self.running = None
        self._ended(code)
        return True

    def _ended(self, code: int, error: str | None = None) -> None:
        now = time.monotonic()
        delay = self.restarts.after(code, now - self._started)
        self.due = None if delay is None else now + delay
        name = self.config.worker_name
        log.warning("worker_ended", worker=name, exit_code=code, error=error, restart_in=delay)


class Supervisor:
    """Starts what is due, ends what the dead left behind, drains all when told to stop."""

    def __init__(self, pinned: Sequence[PinnedWorker], config: Settings, grace: float = GRACE) -> None:
        self._pinned = pinned
        self._config = config
        self._drain = config.drain_timeout + grace
        self._unrecorded: dict[str, tuple[PinnedWorker, float]] = {}
        self._wakeup = Wakeup()
        become_subreaper()

    def run(self) -> int:
        """Serve until told to stop, or until no device is left."""
        with contextlib.ExitStack() as locks:
            for worker in self._pinned:
                worker.lock.take()
                locks.callback(worker.lock.release)
            while not self._wakeup.stops:
                busy = self._reap()
                self._record_quarantines()
                if all(worker.is_out for worker in self._pinned) and not busy:
                    log.error("no_device_left", devices=[worker.device.name for worker in self._pinned])
                    return NO_DEVICE_LEFT
                if not busy:
                    self._start_due()
                self._wakeup.wait(TICK if busy else self._next())
            self._stop()
            return 0

    def _reap(self) -> bool:
        """Whether orphans are still ending: until they have, their device is not free."""
        for worker in self._pinned:
            if worker.reap() and worker.due is None:
                self._unrecorded[worker.device.key] = worker, 0.0
                # Whoever has repaired it may start it again from elsewhere.
                worker.lock.release()
        return end_orphans({worker.running.pid for worker in self._pinned if worker.running})

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._pinned:
            if worker.running is None and worker.due is not None and worker.due <= now:
                worker.start()

    def _next(self) -> float | None:
        """Seconds until there is something to do but for a signal."""
        times = [worker.due for worker in self._pinned if worker.running is None and worker.due is not None]
        times += [due for _, due in self._unrecorded.values()]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _record_quarantines(self) -> None:
        for key, (worker, due) in list(self._unrecorded.items()):
            if due > time.monotonic():
                continue
            try:
                reason = quarantine(worker)
            except SQLAlchemyError as exc:
                log.warning("quarantine_not_recorded", device=worker.device.name, error=str(exc))
                self._unrecorded[key] = worker, time.monotonic() + RECORD_AGAIN
            else:
                log.error("quarantined", worker=worker.config.worker_name, reason=reason)
                del self._unrecorded[key]

    def _stop(self) -> None:
        """Drain all; a further signal, or the end of their time, ends what still runs."""
        log.info("draining", seconds=self._drain)
        end = time.monotonic() + self._drain
        for worker in self._pinned:
            worker.signal(signal.SIGTERM)
        while any(worker.running for worker in self._pinned):
            if self._wakeup.stops > 1 or time.monotonic() > end:
                for worker in self._pinned:
                    worker.signal(signal.SIGKILL)
            self._wakeup.wait(TICK)
            for worker in self._pinned:
                worker.reap()
        while end_orphans(()):
            self._wakeup.wait(TICK)


def quarantine(worker: PinnedWorker) -> str:
    """Put a row in the worker's place that says why its device is left alone; returns the reason."""
    config = worker.config
    database = db.connect(config, "ocrfleet-supervisor", pool_size=1)
    try:
        with database.transaction() as session:
            last = workers.last_error(session, config.worker_name)
            reason = (
                f"the engine died {BARREN_DEATHS} times in a row before it had read a page"
                f"{f' (last: {last})' if last else ''}; when the device is repaired: "
                f"ocrfleet workers start --gpus {worker.device.visible or worker.device.name}"
            )
            workers.register(session, registration(config, uuid4(), None, WorkerState.QUARANTINED, reason))
    finally:
        database.close()
    return reason


def supervise(config: Settings, given: str, command: Sequence[str] = WORKER) -> int:
    """Run `command`, a worker, on each of the devices `given`, until a signal; returns the exit code."""
    pinned = [PinnedWorker(config, device, command) for device in devices.parse(given)]
    return Supervisor(pinned, config).run()


def main(arguments: Sequence[str], command: Sequence[str] = WORKER) -> int:
    """Read the arguments and supervise; a device that cannot be had ends it with 1, a wrong call with 2."""
    parser = argparse.ArgumentParser(prog="python -m worker.supervisor", description=__doc__)
    parser.add_argument("--gpus", default="all", help=devices.FORMS)
    given: Mapping[str, str] = vars(parser.parse_args(arguments))
    config = settings()
    telemetry.configure(config, "supervisor")
    try:
        return supervise(config, given["gpus"], command)
    except ValidationFailed as exc:
        parser.error(exc.detail)
    except FleetError as exc:
        sys.stderr.write(f"error: {exc.code}: {exc.detail}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
