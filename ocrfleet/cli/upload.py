"""`ocrfleet upload`: files and folders of this machine into the fleet's bucket."""

from typing import Annotated

import typer

from ocrfleet.cli import connect, remote
from ocrfleet.cli.console import Exit, put_json, reports_errors
from ocrfleet.cli.inputs import collect
from ocrfleet.cli.progress import display
from ocrfleet.settings import settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("upload")(upload_paths)


@reports_errors
def upload_paths(
    paths: Annotated[list[str], typer.Argument(help="Files, folders, globs.")],
) -> Exit:
    """Upload files and folders, and print a manifest line for each; the same call goes on where one stopped."""
    config = connect.servers(settings())
    files = collect(paths)
    with connect.api(settings()) as client, display() as screen:
        sent = remote.send_all(client, remote.ledger(config.state, client), files, screen)
    for line in sent.lines:
        put_json(line)
    remote.tell(sent)
    return Exit.PARTIAL if sent.left_out else Exit.OK
