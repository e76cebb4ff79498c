"""`ocrfleet jobs`: list, show, watch; cli/control.py, redrive.py and explain.py have the rest."""

from typing import Annotated

import typer

from ocrfleet.api_types import Job
from ocrfleet.cli import connect, control, explain, export, progress, redrive
from ocrfleet.cli.console import (
    Exit,
    Interrupted,
    exit_for_job,
    interruptible,
    labels,
    put,
    put_json,
    put_table,
    reports_errors,
    say,
)
from ocrfleet.client import Client
from ocrfleet.client.progress import finished_pages, note
from ocrfleet.settings import settings
from ocrfleet.states import JobState

app = typer.Typer(no_args_is_help=True, help="List, show, watch and control jobs.")
control.register(app)
app.command("retry")(redrive.retry)
app.command("explain")(explain.explain)
app.command("items")(export.items)
JobId = Annotated[str, typer.Argument(help="The job's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="jobs")


@app.command("ls")
@reports_errors
def ls(
    *,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only jobs with this label, NAME=VALUE.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    json: AsJson = False,
) -> None:
    """The newest jobs."""
    with connect.api(settings()) as client:
        found = client.jobs(state=state, labels=labels(label), page_size=min(limit, 100))
        jobs = [job for _, job in zip(range(limit), found, strict=False)]
    if json:
        for job in jobs:
            put_json(job)
        return
    rows = [["id", "state", "task", "pages", "done", "failed", "created"], *map(_row, jobs)]
    put_table(rows)


def _row(job: Job) -> list[str]:
    counts = job["counts"]
    numbers = [f"{count:,}" for count in (counts["total"], finished_pages(job), counts["dead"])]
    # A canceled job has an outcome too.
    state = job["outcome"] if job["outcome"] and job["state"] == JobState.COMPLETED else job["state"]
    return [job["id"], state, job["task"], *numbers, job["created_at"][:19]]


@app.command("show")
@reports_errors
def show(job_id: JobId, *, json: AsJson = False) -> None:
    """One job: its counts, speed, time left, errors."""
    with connect.api(settings()) as client:
        job = client.job(job_id)
    if json:
        put_json(job, indent=True)
    else:
        describe(job)


@app.command("watch")
@reports_errors
def watch(job_id: JobId, *, json: AsJson = False) -> Exit:
    """Follow a job until it ends. Ctrl-C leaves it running."""
    with connect.api(settings()) as client:
        return follow(client, job_id, json=json)


def follow(client: Client, job_id: str, *, json: bool) -> Exit:
    """Show progress until the job ends or the user detaches; prints the job and returns its exit code."""
    try:
        with interruptible(), progress.display() as screen:
            job = progress.watch(client, job_id, screen)
    except Interrupted:
        say(f"the job goes on; come back with: ocrfleet jobs watch {job_id}")
        return Exit.RUNNING
    if json:
        put_json(job, indent=True)
    else:
        describe(job)
    return exit_for_job(job["state"], job["outcome"])


def describe(job: Job) -> None:
    """A job for people."""
    items = job["items"]
    known = "" if job["expanded_at"] else " so far"
    put(f"job      {job['id']}")
    put(f"state    {job['state']}{', ' + job['outcome'] if job['outcome'] else ''}")
    put(f"task     {job['task']}")
    pending = f", {items['pending']:,} not counted yet" if items["pending"] else ""
    put(f"inputs   {items['total']:,}{known}{pending}")
    pages = [f"{value:,} {name}" for name, value in job["counts"].items() if name != "total" and value]
    put(f"pages    {job['counts']['total']:,}{known}: {', '.join(pages) or 'none'}")
    if told := note(job):
        put(f"speed    {told}")
    for code, count in job["errors"].items():
        put(f"error    {code}: {count:,}")
    if job["error"]:
        put(f"failed   {job['error']['code']}: {job['error']['detail']}")
