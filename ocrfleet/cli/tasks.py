"""`ocrfleet tasks`: what can be done with a page."""

from typing import Annotated, Any

import typer

from ocrfleet.catalogue import TASKS
from ocrfleet.cli import connect
from ocrfleet.cli.console import put_json, put_table, reports_errors, say
from ocrfleet.client import UnreachableError
from ocrfleet.settings import settings

AVAILABLE = {True: "yes", False: "no", None: "?"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tasks")(tasks)


@reports_errors
def tasks(*, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """The tasks, and whether the fleet can do them."""
    found = _tasks()
    if json:
        for task in found:
            put_json(task)
        return
    put_table([("task", "available", "output", "needs", "description"), *map(_row, found)])


def _tasks() -> list[dict[str, Any]]:
    """The fleet's; where none answers those that we know ourselves, with `available` None."""
    try:
        with connect.api(settings(), attempts=1) as client:
            return [{**task} for task in client.tasks()]
    except UnreachableError as exc:
        say(f"{exc}: these are the tasks that there are, not those that a fleet can do")
        return [{**task.described(), "available": None} for task in TASKS.values()]


def _row(task: dict[str, Any]) -> tuple[str, ...]:
    needs = " or ".join(task["needs"]) or "-"
    return task["name"], AVAILABLE[task["available"]], task["output"], needs, task["description"]
