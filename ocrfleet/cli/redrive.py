"""Redrives on the command line: their options, and how they are told; shared by `dlq redrive` and `jobs retry`."""

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
import typer

from ocrfleet.api_types import Redrive, RedrivePlan
from ocrfleet.cli import connect, letter
from ocrfleet.cli.console import put, put_json, put_table, reports_errors, say
from ocrfleet.settings import settings

Rate = Annotated[float | None, typer.Option(help="At most so many pages a second.")]
Options = Annotated[
    list[str] | None,
    typer.Option(help="NAME=VALUE over the job's options, such as password=…; may be repeated."),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(help="NAME=NUMBER over the task's parameters, such as max_tokens=16384; may be repeated."),
]
Reason = Annotated[str | None, typer.Option(help="Why, for the audit.")]
_LEFT_OUT = {
    "manifest_invalid": "their line of the manifest names no object",
    "deadline_exceeded": "the deadline of the job has passed",
}
_STATES = ("ready", "running", "succeeded", "dead", "canceled")


@reports_errors
def retry(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    *,
    code: Annotated[
        list[str] | None, typer.Option(help="Only pages with this code; may be repeated.")
    ] = None,
    rate: Rate = None,
    option: Options = None,
    parameter: Parameters = None,
    reason: Reason = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a job's failed pages again; those that succeeded stay as they are."""
    with connect.api(settings()) as client:
        made = client.retry_job(
            job_id,
            {"codes": code} if code else None,
            max_per_second=rate,
            options=options(option, parameter),
            reason=reason,
        )
    announce(made, json=json)


def options(given: list[str] | None, parameters: list[str] | None) -> dict[str, Any]:
    """The job's options that the command line names."""
    named: dict[str, Any] = dict(_pair(one, "an option") for one in given or [])
    numbers = {
        name: _number(name, value) for name, value in (_pair(one, "a parameter") for one in parameters or [])
    }
    return named | ({"parameters": numbers} if numbers else {})


def _pair(given: str, what: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{what} is NAME=VALUE, not {given!r}")
    return name, value


def _number(name: str, value: str) -> float:
    try:
        number = orjson.loads(value)
    except orjson.JSONDecodeError:
        number = None
    if not isinstance(number, int | float) or isinstance(number, bool):
        raise typer.BadParameter(f"{name} is a number, not {value!r}")
    return number


def announce(made: Redrive, *, json: bool) -> None:
    """A redrive that was just made, and how to see its progress."""
    if json:
        put_json(made)
    else:
        put(f"redrive {made['id']}: {_amount(made)}{_speed(made['max_per_second'])}")
        _put_left_out(made.get("left_out") or {})
    if made["pages"]:
        say(f"to see how far it is: ocrfleet dlq redrives {made['id']}")


def _amount(made: Redrive) -> str:
    if not made["pages"]:
        return "no dead letter is meant"
    remaining = made.get("remaining", 0)
    rest = f", {remaining:,} more follow" if remaining else ""
    return f"{letter.many(made['pages'], 'page')} to run again{rest}"


def _speed(rate: float | None) -> str:
    return f", at most {rate:g} a second" if rate else ""


def _put_left_out(left_out: dict[str, int]) -> None:
    for why, pages in left_out.items():
        put(f"left out  {pages:,}: {_LEFT_OUT.get(why, f'the job is {why}')}")


def put_plan(plan: RedrivePlan, *, json: bool) -> None:
    """What a redrive would do."""
    if json:
        put_json(plan)
        return
    seconds = plan["seconds"]
    lasts = f", let go within {seconds:,.0f} s" if seconds else ""
    put(f"{letter.many(plan['pages'], 'page')} of {letter.many(plan['jobs'], 'job')} would run again{lasts}")
    for name, counted in (("code", plan["by_code"]), ("job", plan["by_job"])):
        if counted:
            put("")
            put_table([(name, "pages"), *((key, f"{pages:,}") for key, pages in counted.items())])
    if plan["jobs"] > len(plan["by_job"]):
        put(f"and {letter.many(plan['jobs'] - len(plan['by_job']), 'more job')}")
    _put_left_out(plan["left_out"])


def put_list(found: Sequence[Redrive], *, json: bool) -> None:
    """Redrives in a table."""
    if json:
        for one in found:
            put_json(one)
        return
    rows = [
        (
            one["id"],
            letter.time(one["created_at"]),
            f"{one['pages']:,}",
            *(f"{one['progress'][state]:,}" for state in _STATES),
            letter.short(one["reason"]),
        )
        for one in found
    ]
    put_table([("id", "made", "pages", *_STATES, "reason"), *rows])


def describe(one: Redrive, *, json: bool) -> None:
    """One redrive, and what became of its pages."""
    if json:
        put_json(one, indent=True)
        return
    put(f"redrive   {one['id']}, {letter.time(one['created_at'])}{_speed(one['max_per_second'])}")
    named = "  ".join(f"{name}={_listed(value)}" for name, value in one["filter"].items())
    put(f"letters   {named}")
    if changed := one["override"].get("options"):
        put(f"options   {'  '.join(f'{name}={value}' for name, value in changed.items())}")
    if one["reason"]:
        put(f"reason    {one['reason']}")
    states = [f"{one['progress'][state]:,} {state}" for state in _STATES if one["progress"][state]]
    put(f"pages     {one['pages']:,}: {', '.join(states) or 'none'}")
    if one.get("remaining"):
        put(f"to come   {one.get('remaining', 0):,}")
    _put_left_out(one.get("left_out") or {})


def _listed(value: Any) -> str:  # noqa: ANN401 (any JSON value)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)  # type: ignore[arg-type]
