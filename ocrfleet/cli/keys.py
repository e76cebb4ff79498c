"""`ocrfleet keys`: list, make and revoke API keys, at the database itself: it works before there is a key."""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from sqlalchemy import RowMapping
from sqlalchemy.orm import Session

from ocrfleet import db
from ocrfleet.cli import connect
from ocrfleet.cli.console import put, put_json, put_table, reports_errors, say
from ocrfleet.settings import settings
from ocrfleet.store import keys, tenants
from ocrfleet.store.tenants import SHELL, USUAL, Scope

app = typer.Typer(no_args_is_help=True, help="List, make and revoke API keys.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_PAGE = 500


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="keys")


@app.callback()
def keys_() -> None:
    """List, make and revoke API keys. At the database: POST /v1/api-keys does the same from afar."""


@contextmanager
def record() -> Generator[Session]:
    """A transaction at the database that the settings name, else at that of the state folder."""
    database = db.connect(connect.servers(settings()), "ocrfleet-access")
    try:
        with database.transaction() as session:
            yield session
    finally:
        database.close()


@app.command("ls")
@reports_errors
def ls(
    *,
    tenant: Annotated[str | None, typer.Option(help="Of one tenant alone.")] = None,
    json: Json = False,
) -> None:
    """List keys, newest first, with those that were revoked."""
    with record() as session:
        tenant_id = tenants.named(session, tenant) if tenant else None
        found = list(keys.listing(session, tenant_id, limit=_PAGE))
        while found and len(more := _after(session, tenant_id, found[-1])):
            found += more
    if json:
        put_json([dict(row) for row in found])
        return
    head = ("ID", "NAME", "TENANT", "SCOPES", "STATE", "LAST USED")
    put_table([head, *(_cells(row) for row in found)])


def _after(session: Session, tenant_id: object, last: RowMapping) -> list[RowMapping]:
    before = last["created_at"], last["id"]
    return list(keys.listing(session, tenant_id, limit=_PAGE, before=before))  # type: ignore[arg-type]


def _cells(row: RowMapping) -> tuple[str, ...]:
    state = "valid" if row["expires_at"] is None else f"until {row['expires_at']:%Y-%m-%d %H:%M}"
    if row["expires_at"] and row["expires_at"] <= datetime.now(UTC):
        state = "expired"
    used = f"{row['last_used_at']:%Y-%m-%d %H:%M}" if row["last_used_at"] else "never"
    scopes = ",".join(row["scopes"])
    return row["id"], row["name"], row["tenant"], scopes, "revoked" if row["revoked_at"] else state, used


@app.command("create")
@reports_errors
def create(
    *,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    tenant: Annotated[str, typer.Option(help="Whose jobs it may see.")] = tenants.DEFAULT,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="What it may do; repeatable. Default: all but fleet; the first key of all may that too."
        ),
    ] = None,
    days: Annotated[float | None, typer.Option(min=0.001, help="It expires after so many days.")] = None,
    json: Json = False,
) -> None:
    """Make a key and print it: only its hash is kept."""
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with record() as session:
        scopes = scope or (USUAL if keys.any_there(session) else tuple(Scope))
        key, row = keys.create(
            session, tenants.named(session, tenant), SHELL, name=name, scopes=scopes, expires_at=expires_at
        )
    if json:
        put_json({"key": key, **row})
    else:
        put(key)
    say(f"it may {', '.join(scopes)}; keep it: it is not shown again")


@app.command("revoke")
@reports_errors
def revoke(
    key_id: Annotated[str, typer.Argument(help="The part between the underscores.")],
    *,
    tenant: Annotated[str, typer.Option(help="Whose key it is.")] = tenants.DEFAULT,
) -> None:
    """Refuse a key from now on."""
    with record() as session:
        keys.revoke(session, tenants.named(session, tenant), key_id, actor=SHELL)
    say(f"{key_id} is refused within five seconds")
