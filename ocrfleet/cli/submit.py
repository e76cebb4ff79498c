"""`ocrfleet submit`: objects of a bucket, or files of this machine, as a job."""

import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import orjson
import typer

from ocrfleet import blobs
from ocrfleet.api_types import JobInput, ObjectRef, PrefixInput
from ocrfleet.blobs import Blobs
from ocrfleet.cli import connect
from ocrfleet.cli.console import Exit, labels, put, put_json, reports_errors, say
from ocrfleet.cli.inputs import STDIN, LocalFile, collect
from ocrfleet.cli.jobs import follow
from ocrfleet.cli.remote import uploaded
from ocrfleet.cli.wanted import (
    FieldOption,
    PagesOption,
    PromptOption,
    SchemaOption,
    TaskOption,
    ToOption,
    Wanted,
)
from ocrfleet.errors import InputNotFound, ManifestInvalid, ValidationFailed
from ocrfleet.inputs import matches
from ocrfleet.settings import Settings, settings

SHOWN = 10
S3 = "s3://"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("submit")(submit)


@reports_errors
def submit(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET…",
            help="s3://BUCKET/PREFIX; or - for manifest lines or s3:// addresses on stdin; or files, folders and"
            " globs of this machine, which are uploaded.",
        ),
    ] = None,
    *,
    manifest: Annotated[str | None, typer.Option(help="s3://BUCKET/KEY of a JSONL or CSV manifest.")] = None,
    task: TaskOption = "text",
    prompt: PromptOption = None,
    field: FieldOption = None,
    schema: SchemaOption = None,
    to: ToOption = None,
    pages: PagesOption = None,
    include: Annotated[list[str] | None, typer.Option(help="Only keys that match this glob.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="No keys that match this glob.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, to find the job by.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    deadline: Annotated[str | None, typer.Option(help="When to give up, ISO 8601.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the job until it ends.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list and check what would be submitted.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> Exit:
    """Submit objects of a bucket, or files and folders of this machine, as a job, and print its id."""
    local = _local(targets or [], manifest)
    wanted = Wanted(task=task, pages=pages, prompt=prompt, fields=field, schema=schema, to=to).request()
    config = connect.servers(settings())
    files = collect(local) if local else []
    target = targets[0] if targets else None
    job_input = None if local else _input(target, manifest, include, exclude, config.max_inline_objects)
    if dry_run:
        return _dry_run(job_input, config, json=json) if job_input else _dry_run_files(files, json=json)
    with connect.api(settings()) as client:
        job_input = job_input or uploaded(client, config.state, files)
        job = client.create_job(
            job_input, **wanted, priority=priority, deadline=deadline, labels=labels(label) or None
        )
        if watch:
            say(f"job {job['id']}")
            return follow(client, job["id"], json=json)
    if json:
        put_json(job, indent=True)
    else:
        put(job["id"])
        say(f"follow it: ocrfleet jobs watch {job['id']}")
    return Exit.OK


def _local(targets: list[str], manifest: str | None) -> list[str]:
    """The targets that are paths of this machine: all or none. A wrong call ends with 2."""
    far = [one for one in targets if one == STDIN or one.startswith(S3)]
    if bool(targets) == (manifest is not None) or (far and len(targets) > 1):
        raise typer.BadParameter(
            "give one of s3://BUCKET/PREFIX, --manifest s3://BUCKET/KEY and -, or paths of this machine"
        )
    return [] if far else targets


def _input(
    target: str | None, manifest: str | None, include: list[str] | None, exclude: list[str] | None, limit: int
) -> JobInput:
    if manifest is not None:
        bucket, key = address(manifest)
        return {"type": "manifest", "bucket": bucket, "key": key}
    if target == STDIN:
        objects = list(_limited(manifest_lines(sys.stdin.buffer), limit))
        return {"type": "objects", "objects": objects}
    bucket, prefix = address(target or "")
    found: PrefixInput = {"type": "prefix", "bucket": bucket, "prefix": prefix}
    if include:
        found["include"] = include
    if exclude:
        found["exclude"] = exclude
    return found


def address(given: str) -> tuple[str, str]:
    """Bucket and key or prefix of s3://BUCKET/KEY."""
    bucket, _, key = given.removeprefix(S3).partition("/")
    if not given.startswith(S3) or not bucket:
        raise ValidationFailed(f"{given!r} is not s3://BUCKET/KEY")
    return bucket, key


def manifest_lines(lines: Iterable[bytes], bucket: str | None = None) -> Iterator[ObjectRef]:
    """The objects of a manifest, or of plain s3:// addresses; ManifestInvalid with the line that is neither."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _object(line.strip(), number, bucket)


def _object(line: bytes, number: int, bucket: str | None) -> ObjectRef:
    if line.startswith(S3.encode()):
        found_bucket, key = address(line.decode())
        return {"bucket": found_bucket, "key": key}
    try:
        found: Any = orjson.loads(line)
        complete = isinstance(found["key"], str) and isinstance(found.get("bucket", bucket), str)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        complete, found = False, None
    if not complete:
        raise ManifestInvalid(f'line {number}: not {{"bucket":…,"key":…}}: {line[:80]!r}', line=number)
    return found


def _limited(objects: Iterator[ObjectRef], limit: int) -> Iterator[ObjectRef]:
    for number, one in enumerate(objects, 1):
        if number > limit:
            raise ValidationFailed(
                f"more than {limit} objects on standard input; put the lines into a bucket and give --manifest",
                limit=limit,
            )
        yield one


def _dry_run_files(files: list[LocalFile], *, json: bool) -> Exit:
    size = sum(file.path.stat().st_size for file in files)
    if json:
        put_json({"objects": len(files), "bytes": size})
        return Exit.OK
    for file in files[:SHOWN]:
        put(file.name)
    shown = f", of which the first {SHOWN}" if len(files) > SHOWN else ""
    say(f"{len(files):,} files, {size:,} bytes{shown}; nothing was uploaded or submitted")
    return Exit.OK


def _dry_run(job_input: JobInput, config: Settings, *, json: bool) -> Exit:
    count = size = 0
    with _objects(job_input, config) as objects:
        for count, (name, one_size) in enumerate(objects, 1):
            size += one_size
            if not json and count <= SHOWN:
                put(name)
    if not count:
        raise InputNotFound("there is no object to submit")
    if json:
        put_json({"objects": count, "bytes": size or None})
    else:
        bytes_known = f", {size:,} bytes" if size else ""
        say(
            f"{count:,} objects{bytes_known}{f', of which the first {SHOWN}' if count > SHOWN else ''}; nothing was submitted"
        )
    return Exit.OK


@contextmanager
def _objects(job_input: JobInput, config: Settings) -> Generator[Iterator[tuple[str, int]]]:
    """(address, bytes if they are known) of every object."""
    match job_input["type"]:
        case "objects":
            yield ((f"{S3}{one.get('bucket')}/{one['key']}", 0) for one in job_input["objects"])
        case "prefix":
            yield _listed(blobs.connect(config), job_input)
        case "manifest":
            with blobs.connect(config).stream(job_input["bucket"], job_input["key"]) as stream:
                lines = manifest_lines(_lines(stream.chunks), job_input["bucket"])
                yield ((f"{S3}{one.get('bucket', job_input['bucket'])}/{one['key']}", 0) for one in lines)
        case "uploads":
            yield iter(())


def _listed(store: Blobs, given: PrefixInput) -> Iterator[tuple[str, int]]:
    include, exclude = given.get("include") or [], given.get("exclude") or []
    for info in store.scan(given["bucket"], given["prefix"]):
        if matches(info.key, include, exclude):
            yield f"{S3}{info.bucket}/{info.key}", info.size


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    yield rest
