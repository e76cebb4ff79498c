"""What a process that reads untrusted files may not do: no root, no network, and a limit on all that it could use up."""

import ctypes
import os
import resource
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pillow_heif
from PIL import AvifImagePlugin, Image

from ocrfleet.documents import Limits
from ocrfleet.errors import Internal

PROCESSES = 4
"""Threads included: one that works, one that watches the parent, one of the decoder of HEIF, and one to spare."""
_PROCESSORS = 2
"""What a decoder with a thread of its own may keep busy."""
_MUCH_MEMORY = 256 * 1024 * 1024
_OWN_USERS, _NOBODY = 1 << 30, 65534
_LIBC = ctypes.CDLL(None)
_NEWIPC, _NEWUSER, _NEWNET = 0x08000000, 0x10000000, 0x40000000
_PR_SET_NO_NEW_PRIVS, _CAPABILITY_VERSION = 38, 0x20080522


def isolate() -> bool:
    """Give up root, the network and all capabilities, as far as the kernel lets us; before the first thread.

    Returns whether our processes and threads are counted apart from everybody else's.
    """
    # Where memory runs out, we are the ones to end.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    _LIBC.unshare(_NEWNET | _NEWIPC)
    own_user = os.geteuid() == 0 and _become_nobody()
    # In a user namespace of its own anybody may leave the network, and nobody may look into our parent.
    own_namespace = _LIBC.unshare(_NEWUSER | _NEWNET | _NEWIPC) == 0
    _LIBC.prctl(*map(ctypes.c_ulong, (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)))
    _LIBC.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())
    return own_user or own_namespace


def _become_nobody() -> bool:
    """Whether we became a user that nobody else is; where the kernel has none to spare, we become `nobody`."""
    for user in (_OWN_USERS + int.from_bytes(os.urandom(3), "big"), _NOBODY):
        with suppress(OSError):
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            return user != _NOBODY
    return False


def confine(limits: Limits, requests: int, *, apart: bool) -> None:
    """Bound what we may use over so many requests; after our own thread has started, since no other may."""
    # Counted together with others of our user, only none at all is a limit.
    processes = PROCESSES if apart else resource.RLIM_INFINITY
    _limit(resource.RLIMIT_NPROC, processes, soft=0)
    _limit(resource.RLIMIT_AS, limits.sandbox_memory)
    _limit(resource.RLIMIT_CPU, int(requests * _PROCESSORS * limits.render_timeout) + 1)
    _limit(resource.RLIMIT_NOFILE, 64)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    pillow_heif.options.DECODE_THREADS = 0
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # For decoders that look at the size before we can: they refuse twice this.
    Image.MAX_IMAGE_PIXELS = limits.max_page_pixels // 2


def _limit(kind: int, wanted: int, *, soft: int | None = None) -> None:
    _, hard = resource.getrlimit(kind)
    # We may be confined already, and must not ask for more. Infinity is -1.
    top = min(
        (value for value in (wanted, hard) if value != resource.RLIM_INFINITY), default=resource.RLIM_INFINITY
    )
    resource.setrlimit(kind, (top if soft is None else soft, top))


def start_clock(seconds: float) -> None:
    """End us (SIGPROF) after too much work on one file, should our parent be stopped and not look at its clock.

    RLIMIT_CPU would count from our start, in ticks, which no clock that we could read does.
    """
    signal.setitimer(signal.ITIMER_PROF, _PROCESSORS * seconds)


def main() -> None:
    """For `ocrfleet doctor`: whether this machine shuts the network to those who read files."""
    network = Path("/proc/self/ns/net").readlink()
    isolate()
    print("open" if Path("/proc/self/ns/net").readlink() == network else "shut")  # noqa: T201


def give_memory_back() -> None:
    """What one file needed is not kept for the next, when it was much."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    if resident > _MUCH_MEMORY:
        # Only glibc hoards, and has this.
        with suppress(AttributeError):
            _LIBC.malloc_trim(0)


@contextmanager
def allow_threads() -> Generator[None]:
    """The decoder of HEIF needs one, and calls the file broken if it does not get it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    try:
        probe = threading.Thread(target=int)
        try:
            probe.start()
        except RuntimeError as exc:
            raise Internal("The sandbox can start no thread.") from exc
        probe.join()
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))


if __name__ == "__main__":
    main()
