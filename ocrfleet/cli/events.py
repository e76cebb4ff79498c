"""`ocrfleet events`: the stores that tell of their buckets, and what they have told."""

from itertools import islice
from typing import Annotated

import typer

from ocrfleet.cli import connect
from ocrfleet.cli.console import put, put_json, put_table, reports_errors, say
from ocrfleet.cli.letter import short, time
from ocrfleet.client.buckets import BucketEvent, EventSource
from ocrfleet.errors import NotFound
from ocrfleet.settings import settings

app = typer.Typer(no_args_is_help=True, help="See what stores tell of their buckets.")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The source's name.")]


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="events")


@app.command("ls")
@reports_errors
def ls(
    *,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="Only what could not be read.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    json: AsJson = False,
) -> None:
    """The newest events."""
    with connect.api(settings()) as client:
        events = client.bucket_events(quarantined=True if quarantined else None, page_size=min(limit, 500))
        found = list(islice(events, limit))
    if json:
        for one in found:
            put_json(one)
    else:
        put_table([("id", "source", "came", "object", "stands"), *map(_row, found)])


def _row(one: BucketEvent) -> tuple[str, ...]:
    stands = f"refused: {one['fault']}" if one["fault"] else "applied" if one["handled_at"] else "waits"
    named = f"{one['bucket']}/{one['key']}" if one["key"] else short(one["raw"])
    return one["id"], one["source"], time(one["received_at"]), named, stands


@app.command("sources")
@reports_errors
def sources(*, json: AsJson = False) -> None:
    """The stores that may tell, newest first."""
    with connect.api(settings()) as client:
        found = list(client.event_sources())
    if json:
        for one in found:
            put_json(one)
    else:
        put_table([("name", "last event", "quarantined"), *map(_source, found)])


def _source(one: EventSource) -> tuple[str, ...]:
    last = one.get("last_event_at")
    return one["name"], time(last) if last else "-", str(one.get("quarantined", 0))


@app.command("add-source")
@reports_errors
def add_source(name: Name, *, json: AsJson = False) -> None:
    """Let a store tell of its buckets, and print its token: only its hash is kept."""
    with connect.api(settings()) as client:
        made = client.create_event_source(name)
        url = client.url
    if json:
        put_json(made)
    else:
        put(made.get("token", ""))
    say(f"to be posted to {url}{made.get('path', '')}; keep the token: it is not shown again")


@app.command("rm-source")
@reports_errors
def rm_source(name: Name) -> None:
    """Refuse a store's token from now on, and forget what it has told."""
    with connect.api(settings()) as client:
        found = next((one for one in client.event_sources() if one["name"] == name), None)
        if found is None:
            raise NotFound(f"there is no event source {name!r}: see `ocrfleet events sources`")
        client.delete_event_source(found["id"])
    put(f"{name} deleted")
