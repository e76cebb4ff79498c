"""`ocrfleet dlq`: list dead letters, understand one, run them again, give them up."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer

from ocrfleet.api_types import Letter, LetterDetail, LetterFilter, LetterGroup
from ocrfleet.cli import connect, letter, redrive
from ocrfleet.cli.console import put, put_json, put_table, reports_errors, say
from ocrfleet.settings import settings

app = typer.Typer(no_args_is_help=True, help="List dead letters, run them again, give them up.")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Jobs = Annotated[str | None, typer.Option("--job", help="Only of this job.")]
Codes = Annotated[list[str] | None, typer.Option("--code", help="Only with this code; may be repeated.")]
Ids = Annotated[list[str] | None, typer.Option("--id", help="Only this letter; may be repeated.")]
Workers = Annotated[str | None, typer.Option("--worker", help="Only last tried by this worker.")]
Revisions = Annotated[str | None, typer.Option("--revision", help="Only last tried by this revision.")]
After = Annotated[str | None, typer.Option(help="Only those that died then or later, ISO 8601.")]
Before = Annotated[str | None, typer.Option(help="Only those that died before then, ISO 8601.")]
Every = Annotated[bool, typer.Option("--all", help="Every dead letter, where nothing else says which.")]


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="dlq")


def meant(
    job: str | None,
    codes: list[str] | None,
    ids: list[str] | None,
    worker: str | None,
    revision: str | None,
    after: str | None,
    before: str | None,
    *,
    every: bool = True,
) -> LetterFilter:
    """The filter that the options stand for; BadParameter for one that says nothing, unless `every` letter is meant."""
    given = {
        "job_id": job,
        "codes": codes,
        "page_ids": ids,
        "worker": worker,
        "revision": revision,
        "created_after": after,
        "created_before": before,
    }
    named = {name: value for name, value in given.items() if value}
    if not named and not every:
        raise typer.BadParameter("say which letters: --job, --code, --id, --worker, --revision, or --all")
    return LetterFilter(**(named or {"all": True}))  # type: ignore[typeddict-item]


@app.command("ls")
@reports_errors
def ls(
    *,
    job: Jobs = None,
    code: Codes = None,
    id: Ids = None,  # noqa: A002
    worker: Workers = None,
    revision: Revisions = None,
    after: After = None,
    before: Before = None,
    group_by: Annotated[
        Literal["code", "revision", "worker", "job"] | None, typer.Option(help="Count them so.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    json: AsJson = False,
) -> None:
    """The newest dead letters, or how many there are of each kind."""
    which = meant(job, code, id, worker, revision, after, before)
    with connect.api(settings()) as client:
        if group_by:
            groups = client.count_dead_letters(group_by, which)
            found = []
        else:
            groups = []
            found = list(islice(client.dead_letters(which, page_size=min(limit + 1, 500)), limit + 1))
    more, found = len(found) > limit, found[:limit]
    if json:
        for one in groups or found:
            put_json(one)
    elif group_by:
        put_table([(group_by, "letters", "newest", "oldest", "for example"), *map(_group, groups)])
    else:
        put_table([("id", "code", "page", "tries", "worker", "died", "why"), *map(_row, found)])
    if more:
        say("there are more: --limit, or --group-by code")


def _row(one: Letter) -> tuple[str, ...]:
    return (
        one["id"],
        one["code"] or one["state"],
        letter.page(one),
        str(one["attempt"]),
        one["worker"] or "-",
        letter.time(one["created_at"]),
        letter.short(one["detail"]),
    )


def _group(group: LetterGroup) -> tuple[str, ...]:
    example = group["example"]
    return (
        group["key"] or "-",
        f"{group['count']:,}",
        letter.time(group["newest"]),
        letter.time(group["oldest"]),
        f"{example['id']}  {letter.short(example['detail'])}",
    )


@app.command("show")
@reports_errors
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="The letter's id.")],
    *,
    thumbnail: Annotated[
        Path | None, typer.Option(help="Write a small picture of the page to this file.")
    ] = None,
    json: AsJson = False,
) -> None:
    """One letter: every attempt with its parameters and what came of it, and what can be done."""
    with connect.api(settings()) as client:
        found: LetterDetail = client.dead_letter(letter_id)
        if thumbnail:
            thumbnail.write_bytes(client.thumbnail(letter_id))
            say(f"the page is in {thumbnail}")
    if json:
        put_json(found, indent=True)
    else:
        letter.describe(found)


@app.command("redrive")
@reports_errors
def redrive_letters(
    *,
    job: Jobs = None,
    code: Codes = None,
    id: Ids = None,  # noqa: A002
    worker: Workers = None,
    revision: Revisions = None,
    after: After = None,
    before: Before = None,
    every: Every = False,
    rate: redrive.Rate = None,
    option: redrive.Options = None,
    parameter: redrive.Parameters = None,
    reason: redrive.Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would run again.")] = False,
    json: AsJson = False,
) -> None:
    """Run dead letters again: they keep their ids and their history."""
    which = meant(job, code, id, worker, revision, after, before, every=every)
    options = redrive.options(option, parameter)
    with connect.api(settings()) as client:
        if dry_run:
            redrive.put_plan(client.plan_redrive(which, max_per_second=rate), json=json)
            return
        made = client.create_redrive(which, max_per_second=rate, options=options, reason=reason)
    redrive.announce(made, json=json)


@app.command("redrives")
@reports_errors
def redrives(
    redrive_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One redrive.")] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    json: AsJson = False,
) -> None:
    """The newest redrives, or one, with what became of their pages."""
    with connect.api(settings()) as client:
        if redrive_id:
            redrive.describe(client.redrive(redrive_id), json=json)
        else:
            redrive.put_list(list(islice(client.redrives(page_size=min(limit, 100)), limit)), json=json)


@app.command("discard")
@reports_errors
def discard(
    *,
    expect: Annotated[int, typer.Option(min=0, help="How many; nothing is done unless it is so.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit.")],
    job: Jobs = None,
    code: Codes = None,
    id: Ids = None,  # noqa: A002
    worker: Workers = None,
    revision: Revisions = None,
    after: After = None,
    before: Before = None,
    every: Every = False,
    json: AsJson = False,
) -> None:
    """Give dead letters up: they leave the list, and no redrive brings them back."""
    which = meant(job, code, id, worker, revision, after, before, every=every)
    with connect.api(settings()) as client:
        discarded = client.discard_dead_letters(which, expected_count=expect, reason=reason)
    if json:
        put_json({"discarded": discarded})
    else:
        put(f"{letter.many(discarded, 'letter')} discarded")
