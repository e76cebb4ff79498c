"""`ocrfleet keys`: make API keys."""

from typing import Annotated

import typer

from ocrfleet import db
from ocrfleet.cli import connect
from ocrfleet.cli.console import put, put_json, reports_errors, say
from ocrfleet.settings import settings
from ocrfleet.store import tenants

app = typer.Typer(no_args_is_help=True, help="Make API keys.")


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="keys")


@app.callback()
def keys() -> None:
    """Make API keys."""


@app.command("create")
@reports_errors
def create(
    *,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "key",
    tenant: Annotated[str, typer.Option(help="Whose jobs it may see.")] = tenants.DEFAULT,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a key and print it: only its hash is kept."""
    database = db.connect(connect.servers(settings()), "ocrfleet-keys")
    try:
        with database.transaction() as session:
            key = tenants.create_key(session, tenant=tenant, name=name)
    finally:
        database.close()
    if json:
        put_json({"key": key, "name": name, "tenant": tenant})
    else:
        put(key)
    say("keep it: it is not shown again")
