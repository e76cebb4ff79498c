"""How far a job is, in a line of words, and where it is shown."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from ocrfleet.api_types import Job
from ocrfleet.states import JOB_TERMINAL

LINE_EVERY = 5.0
Shown = Callable[[Job], None]
_CLEAR = "\r\x1b[K"


def finished_pages(job: Job) -> int:
    """Pages that will not change any more."""
    counts = job["counts"]
    return counts["succeeded"] + counts["dead"] + counts["canceled"]


def note(job: Job) -> str:
    """Speed, time left and failures of a job, as far as they are known."""
    counts = job["counts"]
    parts = [f"{job['throughput']:.1f} pages/s"] if job["throughput"] else []
    if job["eta"]:
        low, high = duration(job["eta"]["low_seconds"]), duration(job["eta"]["high_seconds"])
        parts.append(f"ETA {low}" if low == high else f"ETA {low} to {high}")
    elif job["blocked_on"]:
        parts.append(f"blocked: {job['blocked_on'].replace('_', ' ')}")
    elif job["eta_reason"] and job["state"] not in JOB_TERMINAL:
        parts.append(f"no ETA: {job['eta_reason']}")
    if counts["dead"]:
        parts.append(f"{counts['dead']:,} failed")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Rounded so that the figure promises no more than is known."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Line:
    """One line of a terminal, written over; elsewhere a line every few seconds while something moves."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._last, self._when = "", 0.0

    def __call__(self, job: Job) -> None:
        """Show how far the job is."""
        known = job["expanded_at"] is not None and not job["items"]["pending"]
        of = f"{job['counts']['total']:,}{'' if known else ' so far'}"
        told = note(job)
        line = f"{job['state']}: {finished_pages(job):,} of {of} pages{', ' if told else ''}{told}"
        ended = job["state"] in JOB_TERMINAL
        if self._stream.isatty():
            self._stream.write(f"{_CLEAR}{line}{chr(10) if ended else ''}")
        elif line != self._last and (ended or time.monotonic() - self._when >= LINE_EVERY):
            self._last, self._when = line, time.monotonic()
            self._stream.write(f"{line}\n")
        self._stream.flush()


def shown(progress: bool | Shown) -> Shown:  # noqa: FBT001 (what `wait` is given)
    """Where progress goes: to a line on standard error, to a function, or nowhere."""
    if callable(progress):
        return progress
    return Line() if progress else lambda _: None
