"""`ocrfleet rules`: which objects of a bucket are read unasked, and how."""

from typing import Annotated, Any

import typer

from ocrfleet.cli import connect
from ocrfleet.cli.console import labels, put, put_json, put_table, reports_errors, say
from ocrfleet.cli.letter import short
from ocrfleet.cli.submit import address
from ocrfleet.cli.wanted import (
    FieldOption,
    PagesOption,
    PromptOption,
    SchemaOption,
    TaskOption,
    ToOption,
    Wanted,
)
from ocrfleet.client import Client
from ocrfleet.client.buckets import BucketRule
from ocrfleet.errors import NotFound
from ocrfleet.settings import settings

app = typer.Typer(no_args_is_help=True, help="Read what is put into a bucket, unasked.")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The rule's name.")]
COLUMNS = ("name", "bucket", "prefix", "suffix", "task", "results", "enabled", "listing")


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="rules")


def named(client: Client, name: str) -> BucketRule:
    """The rule of that name. NotFound."""
    found = next(iter(client.bucket_rules(name=name)), None)
    if found is None:
        raise NotFound(f"there is no rule {name!r}: see `ocrfleet rules ls`")
    return found


@app.command("ls")
@reports_errors
def ls(*, json: AsJson = False) -> None:
    """Every rule, newest first, and how its last listing went."""
    with connect.api(settings()) as client:
        found = list(client.bucket_rules())
    if json:
        for one in found:
            put_json(one)
    else:
        put_table([COLUMNS, *map(_row, found)])


def _row(one: BucketRule) -> tuple[str, ...]:
    written: dict[str, Any] = one["job"].get("output") or {}
    return (
        one["name"],
        one["bucket"],
        one["prefix"] or "-",
        one["suffix"] or "-",
        one["job"]["task"],
        written.get("prefix", "") + "*.json" if written.get("per_item") else "-",
        "yes" if one["enabled"] else "no",
        short(one["rescan_fault"]) if one["rescan_fault"] else "ok",
    )


@app.command("add")
@reports_errors
def add(
    name: Name,
    target: Annotated[str, typer.Argument(help="s3://BUCKET/PREFIX: what is there, and what comes.")],
    *,
    suffix: Annotated[str, typer.Option(help="Only keys that end so, such as .pdf.")] = "",
    results: Annotated[
        str, typer.Option(help="Write PREFIX<key>.json for each object; '' means beside it.")
    ] = "results/",
    no_results: Annotated[
        bool, typer.Option("--no-results", help="Write nothing to the bucket: results are read by the API.")
    ] = False,
    rescan: Annotated[int | None, typer.Option(help="Seconds between listings of the prefix.")] = None,
    task: TaskOption = "text",
    prompt: PromptOption = None,
    field: FieldOption = None,
    schema: SchemaOption = None,
    to: ToOption = None,
    pages: PagesOption = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, to find its jobs by.")] = None,
    json: AsJson = False,
) -> None:
    """Make a rule: each object is read once, and once more when it is another."""
    bucket, prefix = address(target)
    wanted = Wanted(task=task, pages=pages, prompt=prompt, fields=field, schema=schema, to=to).request()
    job: dict[str, Any] = {
        **wanted,
        "priority": priority,
        "labels": labels(label) or None,
        "output": None if no_results else {"per_item": True, "prefix": results},
    }
    with connect.api(settings()) as client:
        made = client.create_bucket_rule(
            name,
            bucket=bucket,
            prefix=prefix,
            suffix=suffix,
            job={key: value for key, value in job.items() if value is not None},
            rescan_seconds=rescan,
        )
    if json:
        put_json(made, indent=True)
    else:
        put(made["id"])
        say(f"listed every {made['rescan_seconds']} s; to be told at once: ocrfleet bucket-rules set {name}")


@app.command("rm")
@reports_errors
def rm(name: Name) -> None:
    """Delete a rule; its jobs stay."""
    with connect.api(settings()) as client:
        client.delete_bucket_rule(named(client, name)["id"])
    put(f"{name} deleted")


@app.command("enable")
@reports_errors
def enable(name: Name) -> None:
    """Let a rule take objects again; those that have come meanwhile too."""
    _switch(name, enabled=True)


@app.command("disable")
@reports_errors
def disable(name: Name) -> None:
    """Let a rule take nothing; jobs under way are finished."""
    _switch(name, enabled=False)


def _switch(name: str, *, enabled: bool) -> None:
    with connect.api(settings()) as client:
        client.update_bucket_rule(named(client, name)["id"], enabled=enabled)
    put(f"{name} {'enabled' if enabled else 'disabled'}")
