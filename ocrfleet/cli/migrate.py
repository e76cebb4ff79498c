"""`ocrfleet migrate`: bring the schema up to date."""

import typer

from ocrfleet import db
from ocrfleet.cli import connect
from ocrfleet.cli.console import reports_errors, say
from ocrfleet.settings import settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("migrate")(migrate)


@reports_errors
def migrate() -> None:
    """Bring the database's schema to the newest revision; safe to repeat."""
    db.migrate(connect.servers(settings()))
    say("the schema is at its newest revision")
