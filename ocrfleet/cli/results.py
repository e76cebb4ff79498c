"""`ocrfleet results`: a job's results as they are, one JSON line each."""

from typing import Annotated

import typer

from ocrfleet.cli import connect
from ocrfleet.cli.console import Exit, Interrupted, interruptible, put_json, reports_errors, say
from ocrfleet.settings import settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("results")(results)


@reports_errors
def results(
    job_id: Annotated[str, typer.Argument(help="The job's id.")],
    *,
    cursor: Annotated[str | None, typer.Option(help="Begin after the result with this seq.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends.")] = False,
) -> Exit:
    """Print a job's results and errors as JSON lines, in the order in which they came."""
    try:
        with interruptible(), connect.api(settings()) as client:
            for result in client.results(job_id, cursor=cursor, follow=follow):
                put_json(result)
                cursor = str(result["seq"])
    except Interrupted:
        say(f"to go on: ocrfleet results {job_id} --follow{f' --cursor {cursor}' if cursor else ''}")
        return Exit.RUNNING
    return Exit.OK
