"""Progress on standard error: a bar on a terminal, elsewhere a line now and then."""

import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from ocrfleet.api_types import Job
from ocrfleet.cli.console import say
from ocrfleet.client import Client
from ocrfleet.client.progress import finished_pages, note
from ocrfleet.states import JOB_TERMINAL

POLL = 0.5
LINE_EVERY = 5.0


class Display(Protocol):
    """Where progress is shown; safe to call from one thread at a time."""

    def show(self, what: str, done: int, total: int | None, note: str = "") -> None:
        """`total` None: not known yet."""
        ...


class Bar:
    """A bar on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=None, note="")

    def show(self, what: str, done: int, total: int | None, note: str = "") -> None:
        self._progress.update(self._task, description=what, completed=done, total=total, note=note)


class Lines:
    """A line when the step changes, and every few seconds while something moves."""

    def __init__(self) -> None:
        self._last = ("", "")
        self._when = 0.0

    def show(self, what: str, done: int, total: int | None, note: str = "") -> None:
        line = f"{what} {done:,}/{'?' if total is None else f'{total:,}'}{'  ' if note else ''}{note}"
        due = time.monotonic() - self._when >= LINE_EVERY and line != self._last[1]
        if what != self._last[0] or due:
            self._last, self._when = (what, line), time.monotonic()
            say(line)


@contextmanager
def display() -> Generator[Display]:
    """The display that fits where standard error goes."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress)


def show_job(screen: Display, job: Job) -> None:
    """One step of a job's progress."""
    known = job["expanded_at"] is not None and not job["items"]["pending"]
    total = job["counts"]["total"]
    screen.show("pages" if known else "pages so far", finished_pages(job), total, note(job))


def watch(client: Client, job_id: str, screen: Display, stop: threading.Event | None = None) -> Job:
    """Show the job until it ends, or until `stop` is set; returns what it was last."""
    stop = stop or threading.Event()
    while True:
        job = client.job(job_id)
        show_job(screen, job)
        if job["state"] in JOB_TERMINAL or stop.wait(POLL):
            return job
