"""`ocrfleet jobs explain`: why a job waits, or what it does, in plain words."""

from typing import Annotated

import typer

from ocrfleet.cli import connect
from ocrfleet.cli.console import put, put_json, reports_errors
from ocrfleet.settings import settings


@reports_errors
def explain(
    job_id: Annotated[str, typer.Argument(help="The job's id.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Why a job waits, or what it does, and what to do about it."""
    with connect.api(settings()) as client:
        found = client.explain_job(job_id)
    if json:
        put_json(found, indent=True)
        return
    put(f"job {found['job_id']}: {found['state']}")
    for reason in found["reasons"]:
        put(f"- {reason['sentence']}")
        if reason["next_step"]:
            put(f"    next: {reason['next_step']}")
    if not found["reasons"]:
        put("- Nothing keeps it.")
