"""`ocrfleet workers`: list the fleet, start this host's part of it."""

import os
import sys
from typing import Annotated, Any

import typer

from ocrfleet.cli import connect
from ocrfleet.cli.console import put_json, put_table, reports_errors
from ocrfleet.settings import child_environment, settings
from ocrfleet.states import WorkerState

app = typer.Typer(no_args_is_help=True, help="List workers; start one per GPU of this host.")
COLUMNS = ("name", "device", "engine", "model", "state", "in flight", "pages/s", "heartbeat", "last error")
ENDED = (WorkerState.STOPPED, WorkerState.REFUSED, WorkerState.QUARANTINED)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="workers")


@app.command("ls")
@reports_errors
def ls(*, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Every worker that the record knows, live ones first."""
    with connect.api(settings()) as client:
        found: list[dict[str, Any]] = client.fleet()["workers"]
    if json:
        for worker in found:
            put_json(worker)
        return
    put_table([COLUMNS, *map(_row, found)])


def _row(worker: dict[str, Any]) -> list[str]:
    silent = not worker["alive"] and worker["state"] not in ENDED
    return [
        worker["name"],
        worker["device"],
        worker["engine"],
        worker["model"],
        f"{worker['state']}, silent" if silent else worker["state"],
        f"{worker['in_flight']:,}",
        f"{worker['pages_per_second']:.1f}",
        f"{worker['heartbeat_age']:.0f} s",
        " ".join((worker["last_error"] or "").split()),
    ]


@app.command("start")
@reports_errors
def start(
    *,
    gpus: Annotated[
        str, typer.Option(help="all, indices such as 0,1, GPU-<uuid>, MIG-<uuid>, or cpu:N.")
    ] = "all",
    engine: Annotated[
        str | None, typer.Option(help="OCR engine; on a GPU vllm unless OCRFLEET_ENGINE names another.")
    ] = None,
) -> None:
    """Run one worker per device, restarted when it ends, until Ctrl-C; that lets the pages under way finish."""
    known = connect.servers(settings())
    extra = {f"OCRFLEET_{name.upper()}": str(getattr(known, name)) for name in connect.SERVERS}
    extra["OCRFLEET_STORE_SECRET_KEY"] = known.store_secret_key.get_secret_value()
    if engine:
        extra["OCRFLEET_ENGINE"] = engine
    # In our place: signals, terminal and exit code are the supervisor's. A folder that is named like a service must
    # not be imported.
    environment = child_environment(**extra, PYTHONSAFEPATH="1")
    os.execve(sys.executable, [sys.executable, "-m", "worker.supervisor", "--gpus", gpus], environment)  # noqa: S606
