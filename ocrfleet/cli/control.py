"""`ocrfleet jobs cancel`, `pause`, `resume`, `update`, `rm`: what is done to jobs, one or many at a time."""

from collections.abc import Callable
from typing import Annotated

import typer

from ocrfleet.api_types import Job, JobChanges
from ocrfleet.cli import connect
from ocrfleet.cli.console import Exit, exit_for_status, labels, put, put_json, refusal, reports_errors, say
from ocrfleet.client import ApiError, Client
from ocrfleet.settings import settings

JobIds = Annotated[list[str], typer.Argument(metavar="ID", help="The jobs' ids.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print each job as a line of JSON.")]


def register(jobs: typer.Typer) -> None:
    """Add the commands to `ocrfleet jobs`."""
    for name, command in (
        ("cancel", cancel),
        ("pause", pause),
        ("resume", resume),
        ("update", update),
        ("rm", rm),
    ):
        jobs.command(name)(command)


@reports_errors
def cancel(job_ids: JobIds, *, json: AsJson = False) -> Exit:
    """Begin nothing more, abort what runs; results so far stay."""
    return _each(job_ids, Client.cancel_job, _stands, json=json)


@reports_errors
def pause(job_ids: JobIds, *, json: AsJson = False) -> Exit:
    """Begin nothing more; what runs is finished."""
    return _each(job_ids, Client.pause_job, _stands, json=json)


@reports_errors
def resume(job_ids: JobIds, *, json: AsJson = False) -> Exit:
    """Let paused jobs go on from where they were."""
    return _each(job_ids, Client.resume_job, _stands, json=json)


@reports_errors
def update(
    job_ids: JobIds,
    *,
    priority: Annotated[
        int | None, typer.Option(min=0, max=9, help="9 goes first within the tenant.")
    ] = None,
    deadline: Annotated[str | None, typer.Option(help="When to give up, ISO 8601.")] = None,
    no_deadline: Annotated[bool, typer.Option("--no-deadline", help="Take the deadline away.")] = False,
    label: Annotated[list[str] | None, typer.Option(help="Set NAME=VALUE; may be repeated.")] = None,
    remove_label: Annotated[list[str] | None, typer.Option(help="Take the label NAME away.")] = None,
    json: AsJson = False,
) -> Exit:
    """Change priority, deadline or labels.

    Of a job that has ended only the labels.
    """
    changes = JobChanges()
    if priority is not None:
        changes["priority"] = priority
    if deadline and no_deadline:
        raise typer.BadParameter("a deadline, or none: not both")
    if deadline or no_deadline:
        changes["deadline"] = deadline
    if label or remove_label:
        changes["labels"] = {**dict.fromkeys(remove_label or []), **labels(label)}
    if not changes:
        raise typer.BadParameter(
            "say what to change: --priority, --deadline, --no-deadline, --label, --remove-label"
        )
    return _each(job_ids, lambda client, job_id: client.update_job(job_id, **changes), _terms, json=json)


@reports_errors
def rm(job_ids: JobIds, *, json: AsJson = False) -> Exit:
    """Delete ended jobs and their results, for good."""
    return _each(job_ids, Client.delete_job, lambda _: "deleted", json=json)


def _each(
    job_ids: list[str], act: Callable[[Client, str], Job], told: Callable[[Job], str], *, json: bool
) -> Exit:
    """Do it to each job, whatever becomes of the others; the exit code is that of the first which refused."""
    status = Exit.OK
    with connect.api(settings()) as client:
        for job_id in job_ids:
            try:
                job = act(client, job_id)
            except ApiError as exc:
                status = status or exit_for_status(exc.status)
                say(f"error: {job_id}: {exc.code}: {refusal(exc)}")
                if status is Exit.AUTH:
                    break
                continue
            if json:
                put_json(job)
            else:
                put(f"{job['id']}  {told(job)}")
    return status


def _stands(job: Job) -> str:
    """How the job stands, with the pages that still matter."""
    counts = job["counts"]
    notes = [
        f"{counts[state]:,} {state}"
        for state in ("running", "succeeded", "dead", "canceled")
        if counts[state]
    ]
    return ", ".join([job["state"], *notes])


def _terms(job: Job) -> str:
    named = " ".join(f"{name}={value}" for name, value in sorted(job["labels"].items()))
    return f"priority {job['priority']}, deadline {job['deadline'] or 'none'}, labels {named or 'none'}"
