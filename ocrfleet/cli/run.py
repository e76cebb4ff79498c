"""`ocrfleet run`: read files on this machine, resume what an earlier call left."""

import functools
import hashlib
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from ocrfleet.api_types import Job
from ocrfleet.catalogue import TASKS
from ocrfleet.cli import connect, expect, outputs, progress, record, report
from ocrfleet.cli.bulk import Place, carry_out
from ocrfleet.cli.console import (
    Exit,
    Interrupted,
    exit_for_job,
    interruptible,
    put,
    put_json,
    reports_errors,
    say,
)
from ocrfleet.cli.inputs import STDIN, LocalFile, absolute, collect
from ocrfleet.cli.wanted import (
    FieldOption,
    PagesOption,
    PromptOption,
    SchemaOption,
    TaskOption,
    ToOption,
    Wanted,
)
from ocrfleet.client import UnreachableError
from ocrfleet.errors import InputNotFound, StorageUnavailable, UnknownTask
from ocrfleet.settings import Settings, settings

Places = Callable[[Settings], AbstractContextManager[Place]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One call of `run`."""

    paths: list[str]
    wanted: Wanted = field(default_factory=Wanted)
    out: Path = Path("out")
    json: bool = False
    expect: Path | None = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


@reports_errors
def run(
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders, globs; - is one document on standard input.")
    ],
    *,
    task: TaskOption = "text",
    prompt: PromptOption = None,
    field: FieldOption = None,
    schema: SchemaOption = None,
    to: ToOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the outputs.")] = Path("out"),
    pages: PagesOption = None,
    engine: Annotated[str | None, typer.Option(help="OCR engine.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu:N for N engine processes, or a CUDA device.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    expect: Annotated[
        Path | None, typer.Option(help="Read the files that this JSON file names, and compare how they end.")
    ] = None,
) -> Exit:
    """Read files and folders on this machine. Ctrl-C stops; the same call goes on where it stopped."""
    chosen = {name: value for name, value in (("engine", engine), ("device", device)) if value}
    wanted = Wanted(task=task, pages=pages, prompt=prompt, fields=field, schema=schema, to=to)
    order = Order(paths=paths, wanted=wanted, out=out, json=json, expect=expect)
    try:
        with interruptible():
            return carry_out_order(order, settings().model_copy(update=chosen), connect.place)
    except Interrupted:
        say(f"stopped; nothing is lost. To go on: {shlex.join(['ocrfleet', *sys.argv[1:]])}")
        return Exit.RUNNING


def carry_out_order(order: Order, config: Settings, places: Places) -> Exit:
    """The whole of `run`, on a fleet that `places` provides."""
    task = order.wanted.task
    if task not in TASKS:
        raise UnknownTask(f"there is no task {task!r}; there are {', '.join(TASKS)}")
    wanted = order.wanted.request()
    stdin = sys.stdin.buffer.read(config.max_object_bytes + 1) if STDIN in order.paths else b""
    paths = [
        hashlib.sha256(stdin).hexdigest() if path == STDIN else str(absolute(path)) for path in order.paths
    ]
    run_id = record.identify(paths, wanted, config.engine, str(order.expect))
    with record.hold(config.state, run_id) as folder:
        if STDIN in order.paths:
            folder.stdin.write_bytes(stdin)
        if not folder.job_id:
            _files(order, folder)  # a wrong path is told before anything starts
        job, seconds = _work(order, wanted, config, places, folder)
        tally = outputs.write(order.out, folder.names(), folder.results, task)
        summary = outputs.write_summary(order.out, job, tally, seconds)
        folder.forget()
    return _report(order, job, summary)


def _work(
    order: Order, wanted: Mapping[str, Any], config: Settings, places: Places, folder: record.RunFolder
) -> tuple[Job, float]:
    """The ended job, and how long it took here; goes on elsewhere when a fleet that is not ours has stopped."""
    find = functools.partial(_files, order, folder)
    begun = time.monotonic()
    while True:
        with places(config) as place, progress.display() as screen:
            begun = time.monotonic() if place.ours else begun
            try:
                job = carry_out(place, folder, find, wanted=wanted, screen=screen)
            except (UnreachableError, StorageUnavailable):
                if place.ours:
                    raise
                say("that fleet has stopped")
            else:
                return job, time.monotonic() - begun


def _files(order: Order, folder: record.RunFolder) -> list[LocalFile]:
    exclude = [order.out, *([order.expect] if order.expect else [])]
    files = collect(order.paths, exclude=exclude, stdin=folder.stdin)
    if not order.expect:
        return files
    wanted = expect.load(order.expect)
    files = [file for file in files if file.name in wanted]
    if not files:
        raise InputNotFound(f"{order.expect} names none of the files")
    return files


def _report(order: Order, job: Job, summary: dict[str, Any]) -> Exit:
    line = say if order.json or STDIN in order.paths else put
    as_expected = not order.expect or expect.show_and_check(expect.load(order.expect), order.out, line)
    if order.json:
        put_json(summary, indent=True)
    else:
        if STDIN in order.paths:
            _print_text(order.out)
        report.summarise(summary, order.out, line)
    if order.expect:
        return Exit.OK if as_expected else Exit.FAILED
    return exit_for_job(job["state"], job["outcome"])


def _print_text(out: Path) -> None:
    for path in (out / "stdin.md", out / "stdin.txt"):
        if path.exists():
            put(path.read_text().rstrip())
