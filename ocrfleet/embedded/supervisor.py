"""Keeps processes running: `python -m ocrfleet.embedded.supervisor`, told on stdin what, ended by its end of file.

It imports little, so that it is up in a few hundredths of a second, and has one thread: a child's death signal is
tied to the thread that started it.
"""

import contextlib
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocrfleet.embedded.probes import is_ready
from ocrfleet.processes import Wakeup, become_subreaper, die_with_parent, end_orphans

TICK = 0.02
STEADY = 2.0
"""A child that lived this long (seconds) is restarted at once; one that did not waits longer each time."""
LONGEST_DELAY = 4.0
FIRST_FAILURES = 4
"""Deaths of one process before everything is ready after which the start has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What to run; it is ready when all of its probes (see probes.py) say so."""

    name: str
    argv: list[str]
    cwd: str
    env: dict[str, str] = field(default_factory=dict[str, str])
    user: str | None = None
    ready: list[str] = field(default_factory=list[str])
    after: list[str] = field(default_factory=list[str])
    """Started when these are ready, or have ended well if they run `once`."""
    once: bool = False
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    """What it gets when the supervisor is killed."""
    grace: float = 5.0
    """Seconds from the stop signal to SIGKILL."""
    rank: int = 0
    """The lowest stops first."""
    nice: int = 0
    url: str = ""


class Child:
    """One process over its restarts."""

    def __init__(self, spec: Process, log: Path, environment: dict[str, str]) -> None:
        self.spec = spec
        self.ready = False
        self.done = False
        self.restarts = -1
        self.failures = 0
        self.due = 0.0
        self.running: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._log = log
        self._environment = environment | spec.env

    def start(self) -> None:
        user = self.spec.user
        self._started = time.monotonic()
        self.restarts += 1
        with self._log.open("ab") as log:
            try:
                self.running = subprocess.Popen(  # noqa: S603  argv is ours
                    self.spec.argv,
                    cwd=self.spec.cwd,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    user=user,
                    group=pwd.getpwnam(user).pw_gid if user else None,
                    extra_groups=[] if user else None,
                    # Its own group: a terminal's Ctrl-C passes it by, and what it leaves behind can be ended.
                    process_group=0,
                    preexec_fn=die_with_parent(self.spec.death_signal, self.spec.nice),  # noqa: PLW1509  one thread
                )
            except OSError as exc:
                log.write(f"{exc}\n".encode())
                self._failed()

    def signal(self, number: int) -> None:
        if self.running:
            self.running.send_signal(number)

    def reap(self) -> bool:
        """Whether it has died since the last call; what it started dies with it."""
        if self.running is None or self.running.poll() is None:
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.running.pid, signal.SIGKILL)
        self.done = self.spec.once and self.running.returncode == 0
        self._failed()
        return True

    def _failed(self) -> None:
        self.running, self.ready = None, self.done
        now = time.monotonic()
        self.failures = 1 if now - self._started > STEADY else self.failures + 1
        self.due = now + (min(LONGEST_DELAY, 0.1 * 2**self.failures) if self.failures > 1 else 0)

    def probe(self) -> None:
        if self.running and not self.ready and not self.spec.once:
            self.ready = all(is_ready(probe, self.running.pid) for probe in self.spec.ready)


class Supervisor:
    """Starts what is due, restarts what died, stops all in order."""

    def __init__(self, children: list[Child], status: Path, give_up: float) -> None:
        self._children = {child.spec.name: child for child in children}
        self._status = status
        self._give_up = time.monotonic() + give_up
        self._announced = False
        self._wakeup = Wakeup()
        become_subreaper()

    def run(self) -> int:
        """Serve until told to stop; 1 if not everything became ready."""
        failed = ""
        while not self._wakeup.stops and not failed:
            self._reap()
            self._start_due()
            for child in self._children.values():
                child.probe()
            failed = self._progress()
            self._wait(TICK if self._is_moving() else None)
        if failed:
            _tell({"failed": failed})
        self._stop()
        return 1 if failed else 0

    def _is_moving(self) -> bool:
        return not all(child.ready for child in self._children.values())

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.running is None and not child.done and child.due <= now and self._may_start(child):
                child.start()
                self._write_status()

    def _may_start(self, child: Child) -> bool:
        # After the first start a dead server holds nobody back.
        return self._announced or all(self._children[name].ready for name in child.spec.after)

    def _progress(self) -> str:
        """Announce that all is ready, once; the name of what failed before."""
        if self._announced:
            return ""
        if not self._is_moving():
            self._announced = True
            _tell({"ready": True})
            return ""
        for name, child in self._children.items():
            spent = child.failures >= (1 if child.spec.once else FIRST_FAILURES)
            if spent and not child.done:
                return name
        if time.monotonic() > self._give_up:
            return next(name for name, child in self._children.items() if not child.ready)
        return ""

    def _wait(self, seconds: float | None) -> None:
        watched = [] if self._wakeup.stops else [sys.stdin.fileno()]
        if self._wakeup.wait(seconds, *watched) and not os.read(sys.stdin.fileno(), 4096):
            self._wakeup.stops += 1

    def _reap(self) -> bool:
        """Whether orphans were found, which may be ending still."""
        died = [child for child in self._children.values() if child.reap()]
        orphans = end_orphans({child.running.pid for child in self._children.values() if child.running})
        if died:
            self._write_status()
        return orphans

    def _stop(self) -> None:
        for rank in sorted({child.spec.rank for child in self._children.values()}):
            self._stop_rank([child for child in self._children.values() if child.spec.rank == rank])
        while self._reap():
            self._wait(TICK)
        self._status.unlink(missing_ok=True)

    def _stop_rank(self, children: list[Child]) -> None:
        begun, asked = time.monotonic(), self._wakeup.stops
        for child in children:
            child.signal(child.spec.stop_signal)
        while any(child.running for child in children):
            for child in children:
                # Asked again to stop: at once.
                if self._wakeup.stops > max(asked, 1) or time.monotonic() - begun > child.spec.grace:
                    child.signal(signal.SIGKILL)
            self._wait(TICK)
            self._reap()

    def _write_status(self) -> None:
        processes = {
            name: {"pid": child.running.pid, "restarts": child.restarts}
            for name, child in self._children.items()
            if child.running
        }
        new = self._status.with_suffix(".new")
        new.write_text(json.dumps({"supervisor": os.getpid(), "processes": processes}, indent=1))
        new.replace(self._status)


def main() -> int:
    """Read one line of JSON {environment, logs, status, give_up, processes} and run it."""
    given = json.loads(sys.stdin.buffer.readline())
    logs = Path(given["logs"])
    children = [
        Child(spec, logs / f"{spec.name}.log", given["environment"])
        for spec in (Process(**fields) for fields in given["processes"])
    ]
    return Supervisor(children, Path(given["status"]), given["give_up"]).run()


def _tell(event: dict[str, Any]) -> None:
    # The one who started us may be gone.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
