"""What a process tells the kernel about its relatives (Linux)."""

import ctypes
import gc
import os
import signal
from collections.abc import Callable

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


def spare_collector() -> None:
    """After the start: what is loaded stays, and short-lived objects by the thousand don't make Python look for cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
