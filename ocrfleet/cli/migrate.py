"""`ocrfleet migrate`: bring the schema up to date."""

from typing import Annotated

import typer

from ocrfleet import db
from ocrfleet.cli import connect
from ocrfleet.cli.console import reports_errors, say
from ocrfleet.settings import settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("migrate")(migrate)


@reports_errors
def migrate(
    *,
    grant: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            help="Let this role, which owns nothing, run the services: it can change no table.",
        ),
    ] = None,
) -> None:
    """Bring the database's schema to the newest revision; safe to repeat."""
    servers = connect.servers(settings())
    db.migrate(servers)
    say("the schema is at its newest revision")
    if grant:
        db.grant(servers, grant)
        say(f"{grant} reads and writes every table, and can change none: name it in OCRFLEET_DATABASE_URL")
