"""`ocrfleet tenants`: list, make and change tenants, at the database itself."""

from typing import Annotated, Any

import typer

from ocrfleet.cli.console import put, put_json, put_table, reports_errors, say
from ocrfleet.cli.keys import Json, record
from ocrfleet.rights import MAX_RIGHTS, misnamed
from ocrfleet.store import tenants

app = typer.Typer(no_args_is_help=True, help="List, make and change tenants.")
_PAGE = 500
_NONE, _ALL = "none", "all"


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
Buckets = Annotated[
    list[str] | None,
    typer.Option(
        "--bucket",
        help=f"What it may read and write, `bucket` or `bucket/prefix`; several times, or `{_ALL}`: every bucket.",
    ),
]
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
    head = ("NAME", "WEIGHT", "PAGES/DAY", "BYTES/DAY", "JOBS OPEN", "REQUESTS/MIN", "BUCKETS", "ID")
    limits = (
        [
            *(str(row[limit] if row[limit] is not None else "-") for limit in tenants.LIMITS),
            _ALL if row["buckets"] is None else " ".join(row["buckets"]) or "-",
        ]
        for row in found
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
    bucket: Buckets = None,
) -> None:
    """Make a tenant and print its id; `ocrfleet keys create --tenant NAME` makes its first key."""
    limits = _given(
        pages_per_day=pages_per_day,
        bytes_per_day=bytes_per_day,
        jobs_open=jobs_open,
        requests_per_minute=requests_per_minute,
    )
    rights = _rights(bucket) if bucket else None
    with record() as session:
        tenant_id = tenants.create(session, name, weight=weight or 1.0, limits=limits, buckets=rights)
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
    bucket: Buckets = None,
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
    if bucket:
        changes["buckets"] = _rights(bucket)
    if not changes:
        raise typer.BadParameter("name something to change")
    with record() as session:
        row = tenants.change(session, tenants.named(session, name), changes)
    put_json(dict(row), indent=True)


def _rights(named: list[str]) -> list[str] | None:
    if named == [_ALL]:
        return None
    if len(named) > MAX_RIGHTS:
        raise typer.BadParameter(f"a tenant has at most {MAX_RIGHTS} rights, not {len(named)}")
    for one in named:
        if one == _ALL:
            raise typer.BadParameter(f"`{_ALL}` stands alone")
        if fault := misnamed(one):
            raise typer.BadParameter(fault)
    return named


def _given(**limits: str | None) -> dict[str, Any]:
    return {name: _number(value) for name, value in limits.items() if value is not None}
