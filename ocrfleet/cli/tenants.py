"""`ocrfleet tenants`: list, make and change tenants, at the database itself."""

from typing import Annotated, Any

import typer

from ocrfleet.cli.console import put, put_json, put_table, reports_errors, say
from ocrfleet.cli.keys import Json, record
from ocrfleet.store import tenants

app = typer.Typer(no_args_is_help=True, help="List, make and change tenants.")
_PAGE = 500
_NONE = "none"


def _number(value: str) -> int | None:
    """A limit, or none."""
    if value == _NONE:
        return None
    try:
        number = int(value.replace("_", ""))
    except ValueError as exc:
        raise typer.BadParameter(f"a limit is a number or `{_NONE}`, not {value!r}") from exc
    if number < 0:
        raise typer.BadParameter(f"a limit is not negative, as {number} is")
    return number


Name = Annotated[str, typer.Argument(help="The tenant's name.")]
Weight = Annotated[float | None, typer.Option(min=0.000001, help="Its share of a busy fleet.")]
Pages = Annotated[str | None, typer.Option(help=f"By UTC day; `{_NONE}`: any number.")]
Bytes = Annotated[str | None, typer.Option(help=f"Of the objects read, by UTC day; or `{_NONE}`.")]
Jobs = Annotated[str | None, typer.Option(help=f"Unfinished jobs that go on at once; or `{_NONE}`.")]
Requests = Annotated[str | None, typer.Option(help=f"To the API; or `{_NONE}`.")]


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="tenants")


@app.callback()
def tenants_() -> None:
    """List, make and change tenants: their share of the fleet, and what they may use."""


@app.command("ls")
@reports_errors
def ls(*, json: Json = False) -> None:
    """List tenants by name."""
    with record() as session:
        found = list(tenants.listing(session, limit=_PAGE))
        while found and (more := list(tenants.listing(session, limit=_PAGE, after=found[-1]["name"]))):
            found += more
    if json:
        put_json([dict(row) for row in found])
        return
    head = ("NAME", "WEIGHT", "PAGES/DAY", "BYTES/DAY", "JOBS OPEN", "REQUESTS/MIN", "ID")
    limits = (
        [str(row[limit] if row[limit] is not None else "-") for limit in tenants.LIMITS] for row in found
    )
    rows = zip(found, limits, strict=True)
    put_table([head, *((row["name"], f"{row['weight']:g}", *cells, str(row["id"])) for row, cells in rows)])


@app.command("create")
@reports_errors
def create(
    name: Name,
    *,
    weight: Weight = None,
    pages_per_day: Pages = None,
    bytes_per_day: Bytes = None,
    jobs_open: Jobs = None,
    requests_per_minute: Requests = None,
) -> None:
    """Make a tenant and print its id; `ocrfleet keys create --tenant NAME` makes its first key."""
    limits = _given(
        pages_per_day=pages_per_day,
        bytes_per_day=bytes_per_day,
        jobs_open=jobs_open,
        requests_per_minute=requests_per_minute,
    )
    with record() as session:
        tenant_id = tenants.create(session, name, weight=weight or 1.0, limits=limits)
    put(str(tenant_id))
    say(f"its first key: ocrfleet keys create --tenant {name}")


@app.command("set")
@reports_errors
def set_(
    name: Name,
    *,
    weight: Weight = None,
    pages_per_day: Pages = None,
    bytes_per_day: Bytes = None,
    jobs_open: Jobs = None,
    requests_per_minute: Requests = None,
) -> None:
    """Change what is named."""
    changes = _given(
        pages_per_day=pages_per_day,
        bytes_per_day=bytes_per_day,
        jobs_open=jobs_open,
        requests_per_minute=requests_per_minute,
    )
    if weight is not None:
        changes["weight"] = weight
    if not changes:
        raise typer.BadParameter("name something to change")
    with record() as session:
        row = tenants.change(session, tenants.named(session, name), changes)
    put_json(dict(row), indent=True)


def _given(**limits: str | None) -> dict[str, Any]:
    return {name: _number(value) for name, value in limits.items() if value is not None}
