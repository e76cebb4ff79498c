"""`ocrfleet export`: a job's results as files of a bucket, and `ocrfleet jobs items`: its inputs one by one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from ocrfleet import blobs
from ocrfleet.blobs import Blobs
from ocrfleet.cli import connect
from ocrfleet.cli.console import (
    Exit,
    Interrupted,
    fail,
    interruptible,
    put,
    put_json,
    put_table,
    reports_errors,
    say,
)
from ocrfleet.client import ExportHandle
from ocrfleet.client.exports import Export, Item
from ocrfleet.errors import ValidationFailed
from ocrfleet.settings import settings
from ocrfleet.states import ExportState

THREADS = 8
MANIFEST, SUCCESS = "manifest.jsonl", "_SUCCESS"
_AT_ONCE = 1000
"""Downloads begun together."""
Format = Literal["jsonl", "markdown", "parquet", "pdf", "alto"]
State = Literal["pending", "running", "succeeded", "partial", "dead", "canceled"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(export)


@reports_errors
def export(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")],
    *,
    format: Annotated[Format, typer.Option(help="What the files are.")],  # noqa: A002
    bucket: Annotated[str | None, typer.Option(help="Default: the fleet's own.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Of every key. Default: exports/JOB/FORMAT/.")] = None,
    out: Annotated[Path | None, typer.Option(help="Download the files into this folder.")] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Of a job that still runs, what there is.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Come back when it is done.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> Exit:
    """Write a job's results to a bucket: one file for each input, manifest.jsonl, and _SUCCESS at last."""
    known = settings()
    with connect.api(known) as client:
        made = client.create_export(job_id, format, bucket=bucket, prefix=prefix, partial=partial)
        if wait or out:
            try:
                with interruptible():
                    made = ExportHandle(client, made["id"]).wait()
            except Interrupted:
                say(f"the export goes on; come back with the same command, or see /v1/exports/{made['id']}")
                return Exit.RUNNING
    if made["state"] == ExportState.FAILED:
        error = made["error"] or {}
        fail(error.get("code", "internal"), error.get("detail", ""), Exit.FAILED)
    if out:
        count = download(blobs.connect(connect.servers(known)), made, out)
        say(f"{count:,} files in {out}")
    if json:
        put_json(made, indent=True)
    else:
        _describe(made)
    if made["finished_at"] is None:
        return Exit.RUNNING
    return Exit.PARTIAL if made["failed"] else Exit.OK


def _describe(made: Export) -> None:
    put(f"export   {made['id']}")
    put(f"state    {made['state']}")
    put(f"files    s3://{made['bucket']}/{made['prefix']}")
    without = f", {made['failed']:,} without a file" if made["failed"] else ""
    put(f"inputs   {made['items']:,}{without}")
    put(f"bytes    {made['bytes']:,}")


def download(store: Blobs, made: Export, out: Path) -> int:
    """Fetch an export's files and its manifest into a folder; returns how many they are. FleetErrors of the store."""
    out.mkdir(parents=True, exist_ok=True)
    manifest = out / MANIFEST
    _fetch(store, made, MANIFEST, manifest)
    count = 1
    with ThreadPoolExecutor(THREADS) as pool:
        names = _names(manifest)
        while some := list(islice(names, _AT_ONCE)):
            begun = [pool.submit(_fetch, store, made, name, place(out, name)) for name in some]
            count += sum(done.result() is None for done in begun)
    return count


def _names(manifest: Path) -> Iterator[str]:
    """Of the outputs, each once: the rows of several inputs may be in one part."""
    before = None
    with manifest.open("rb") as lines:
        for line in lines:
            name: str | None = orjson.loads(line)["output"]
            if name is not None and name != before:
                yield name
                before = name


def _fetch(store: Blobs, made: Export, name: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part") if len(path.name.encode()) < 240 else path
    with store.stream(made["bucket"], f"{made['prefix']}{name}") as stream, draft.open("wb") as file:
        for chunk in stream.chunks:
            file.write(chunk)
    draft.replace(path)


def place(out: Path, name: str) -> Path:
    """Where a key goes in the folder; ValidationFailed for one that would leave it."""
    path = out.joinpath(*[part for part in name.split("/") if part])
    if ".." in name.split("/") or not path.is_relative_to(out):
        raise ValidationFailed(f"{name!r} names no place below the folder {out}.")
    return path


@reports_errors
def items(
    job_id: Annotated[str, typer.Argument(help="The job's id.")],
    *,
    state: Annotated[State | None, typer.Option(help="Only inputs in this state.")] = None,
    custom_id: Annotated[str | None, typer.Option(help="Only inputs with this custom_id.")] = None,
    key: Annotated[str | None, typer.Option(help="Only inputs with this key.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """A job's inputs, in order: what became of each."""
    with connect.api(settings()) as client:
        wanted = min(limit + 1, 500)
        listed = client.items(job_id, state=state, custom_id=custom_id, key=key, page_size=wanted)
        found = list(islice(listed, limit + 1))
    more, found = len(found) > limit, found[:limit]
    if json:
        for one in found:
            put_json(one)
    else:
        put_table([("id", "state", "pages", "read", "failed", "why", "input"), *map(_row, found)])
    if more:
        say("there are more: --limit")


def _row(item: Item) -> tuple[str, ...]:
    counts: Any = item["pages"]
    numbers = tuple(f"{counts[name]:,}" for name in ("total", "succeeded", "dead"))
    name = f"{item['key']}/{item['member']}" if item["member"] else item["key"]
    return (item["id"], item["state"], *numbers, item["code"] or "-", f"s3://{item['bucket']}/{name}")
