"""What a file costs: processor seconds and memory of the test's own process and of the sandbox's."""

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_KIB = 1024


@dataclass(slots=True)
class Cost:
    """Of one file."""

    seconds: float = 0.0
    """Of all processors that worked on it."""
    memory: int = 0
    """Bytes: the most that the process that decoded it had, and what the worker itself grew by meanwhile."""


@contextmanager
def metered() -> Generator[Cost]:
    """Measure this thread and the sandbox, looking often enough to know even those that are ended meanwhile."""
    cost, done, seen = Cost(), threading.Event(), dict[int, tuple[float, float, int]]()
    before = {pid: _worked(pid) for pid in _sandboxed()}
    for pid in (os.getpid(), *before):
        # Forget the peak of earlier files.
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")
    own, clock = _memory(os.getpid(), "VmRSS"), time.thread_time()

    def look() -> None:
        for pid in _sandboxed():
            with suppress(OSError, IndexError):
                seen[pid] = *_worked(pid), _memory(pid, "VmHWM")

    def watch() -> None:
        while not done.wait(0.02):
            look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield cost
    finally:
        done.set()
        watcher.join()
        look()
        cost.seconds, cost.memory = time.thread_time() - clock, max(0, _memory(os.getpid(), "VmHWM") - own)
        peak = 0
        for pid, (first, everyone, memory) in seen.items():
            old = before.get(pid, (0.0, 0.0))
            cost.seconds += max(first - old[0], everyone - old[1])
            peak = max(peak, memory if first > old[0] else 0)
        cost.memory += peak


def _sandboxed() -> list[int]:
    """Children of this process that read files."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            found += [int(pid) for pid in (task / "children").read_text().split() if _reads_files(pid)]
    return found


def _reads_files(pid: str) -> bool:
    with suppress(OSError):
        return b"ocrfleet.sandbox_child" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _worked(pid: int) -> tuple[float, float]:
    """Processor seconds of its first thread, to the nanosecond, and of all its threads, in ticks."""
    first = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return first, (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * _KIB
