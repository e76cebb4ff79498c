"""What a process tells the kernel about its relatives (Linux)."""

import ctypes
import gc
import os
import select
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None)


def bind_to(parent: int, number: int = signal.SIGKILL) -> None:
    """Get a signal when the parent's thread that started us ends, and leave if the parent is gone already."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def die_with_parent(number: int = signal.SIGKILL, nice: int = 0) -> Callable[[], None]:
    """A `preexec_fn` that binds the child to this process; start it from a thread that lives as long as we do."""
    parent = os.getpid()

    def before_exec() -> None:
        bind_to(parent, number)
        os.nice(nice)

    return before_exec


def become_subreaper() -> None:
    """Orphans among our descendants become our children, so that they can be found and ended."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans(known: Collection[int]) -> bool:
    """End the children that are not `known`: a subreaper's orphans. Whether there were any; some may be ending still."""
    found = {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()} - set(
        known
    )
    for pid in found:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
    return bool(found)


class Wakeup:
    """Signals that end a wait, for a supervisor of one thread: those that ask it to stop, and a child's end."""

    def __init__(self) -> None:
        self.stops = 0
        """How often it was asked to stop."""
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop_asked)
        # Without a handler it would not reach the descriptor.
        signal.signal(signal.SIGCHLD, _pass)

    def wait(self, seconds: float | None, *files: int) -> bool:
        """Until a signal, or `seconds` have passed, or one of the files can be read; whether one can."""
        readable = select.select([self._read, *files], [], [], seconds)[0]
        if self._read in readable:
            os.read(self._read, 4096)
        return any(file in readable for file in files)

    def _stop_asked(self, *_: object) -> None:
        self.stops += 1


def _pass(*_: object) -> None:
    pass


def spare_collector() -> None:
    """After the start: what is loaded stays, and short-lived objects by the thousand don't make Python look for cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
