"""What every command shares: standard output and error, exit codes, signals, the API it talks to."""

import functools
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import Any, NoReturn, ParamSpec

import orjson
import typer

from ocrfleet.advice import next_step
from ocrfleet.client import ApiError, UnreachableError
from ocrfleet.errors import FleetError, RetryClass
from ocrfleet.states import JobOutcome, JobState

P = ParamSpec("P")
_STATES = frozenset({403, 409})
"""Statuses of what is no fault of the arguments."""


class Exit(IntEnum):
    """Exit codes of every command; 2 is a wrong call, which typer reports."""

    OK = 0
    FAILED = 1
    PARTIAL = 3
    AUTH = 4
    INPUT = 5
    CANCELED = 6
    RUNNING = 8


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal that means the same."""


def say(line: str) -> None:
    """A line for people, on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def put(line: str) -> None:
    """A line of data, on standard output."""
    sys.stdout.write(f"{line}\n")


def put_json(value: object, *, indent: bool = False) -> None:
    """One JSON value on standard output, for a program or, indented, for people too."""
    options = orjson.OPT_INDENT_2 if indent else 0
    put(orjson.dumps(value, option=options | orjson.OPT_NON_STR_KEYS).decode())


def put_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of as many cells each, in columns, on standard output."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        put("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def fail(code: str, detail: str, status: Exit, hint: str | None = None) -> NoReturn:
    """Report an error with what to do about it, and end with the exit code."""
    say(f"error: {code}: {detail}{f'{chr(10)}  next: {hint}' if hint else ''}")
    raise typer.Exit(status)


def reports_errors(command: Callable[P, Any]) -> Callable[P, None]:
    """A command whose errors become one line and an exit code, and whose returned code is its own."""

    @functools.wraps(command)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            status = command(*args, **kwargs)
        except ApiError as exc:
            fail(exc.code, refusal(exc), exit_for_status(exc.status), exc.next_step)
        except UnreachableError as exc:
            hint = "start it with `ocrfleet up`, or name another with OCRFLEET_URL and OCRFLEET_API_KEY"
            fail("unreachable", str(exc), Exit.FAILED, hint)
        except FleetError as exc:
            # What was given to the command itself is named in the detail, and what is wrong with it.
            hint = (
                None if exc.retry is RetryClass.CALLER and exc.status not in _STATES else next_step(exc.code)
            )
            fail(exc.code, exc.detail, exit_for_status(exc.status), hint)
        raise typer.Exit(status or Exit.OK)

    return wrapper


def refusal(error: ApiError) -> str:
    """What the API said, with the request's id and each fault on a line of its own."""
    known = f" (request {error.request_id})" if error.request_id else ""
    faults = (f"\n  {fault.get('pointer', '')} {fault.get('detail', '')}" for fault in error.errors)
    return f"{error.detail}{known}{''.join(faults)}"


def exit_for_status(status: int) -> Exit:
    """The exit code for an error's HTTP status."""
    if status in (401, 403):
        return Exit.AUTH
    return Exit.INPUT if status in (400, 404, 413, 415, 422) else Exit.FAILED


def exit_for_job(state: str, outcome: str | None) -> Exit:
    """The exit code that tells how a job stands."""
    match state, outcome:
        case JobState.CANCELED, _:
            return Exit.CANCELED
        case JobState.FAILED, _:
            return Exit.FAILED
        case JobState.COMPLETED, JobOutcome.SUCCEEDED:
            return Exit.OK
        case JobState.COMPLETED, JobOutcome.PARTIAL:
            return Exit.PARTIAL
        case JobState.COMPLETED, _:
            return Exit.FAILED
        case _:
            return Exit.RUNNING


@contextmanager
def interruptible() -> Generator[None]:
    """Ctrl-C, SIGTERM and a closed terminal raise `Interrupted`, so that what was started is stopped."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        raise Interrupted(signal.Signals(number).name)

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def labels(given: list[str] | None) -> dict[str, str]:
    """NAME=VALUE options as a mapping."""
    found: dict[str, str] = {}
    for label in given or []:
        name, equals, value = label.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"a label is NAME=VALUE, not {label!r}")
        found[name] = value
    return found
