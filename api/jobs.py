"""Submitting jobs, and seeing how far they are."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Query, Request, Response
from sqlalchemy import RowMapping
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from api import answers, buckets, etags, examples, rules, schemas, tokens, upload_inputs
from api.deps import GivenCaller, GivenServices, Services
from api.estimate import ESTIMATE, Estimate, estimate
from api.idempotency import NewId
from api.problems import documented, refused
from api.views import job_view
from ocrfleet import inputs
from ocrfleet.errors import NotFound
from ocrfleet.states import JOB_TERMINAL, JobState
from ocrfleet.store import jobs
from ocrfleet.store.jobs import NewJob
from ocrfleet.store.tenants import Caller

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
JOB_EXAMPLE: dict[str, Any] = {"content": {"application/json": {"example": answers.JOB}}}
_LIST_EXAMPLE = {
    "content": {"application/json": {"example": {"data": [answers.JOB], "next_page_token": None}}}
}


@router.post(
    "",
    status_code=202,
    summary="Submit a job",
    response_model=answers.Job,
    responses={
        200: {
            "model": Estimate,
            "description": "With `validate_only`: what the job would be.",
            "content": {"application/json": {"example": ESTIMATE}},
        },
        202: JOB_EXAMPLE
        | {"headers": {"Location": {"description": "The job.", "schema": {"type": "string"}}}},
        **documented(
            "validation_failed",
            "unknown_task",
            "prompt_too_long",
            "file_too_large",
            "upload_incomplete",
            "manifest_invalid",
            "input_not_found",
            "input_access_denied",
            "storage_unavailable",
        ),
    },
)
def create_job(
    body: Annotated[schemas.JobRequest, Body(openapi_examples=examples.JOB_EXAMPLES)],
    caller: GivenCaller,
    services: GivenServices,
    response: Response,
    new_id: NewId,
) -> answers.Job | JSONResponse:
    """Accept a job at once; its input is read later, so an object that is missing shows in the results.

    With `validate_only` no job is made (200): as much of the input is read as 5 seconds allow.
    """
    options = _check(body, services)
    given = _input(body, caller, services)
    rights = buckets.rights_of(services, caller)
    output = body.output.model_dump(exclude_none=True) if body.output else {}
    inputs.check(given, rights)
    buckets.check_output(rights, output, given)
    if body.validate_only:
        with services.database.statement() as session:
            rules.check_webhooks(session, caller.tenant_id, body.webhook_ids)
        found_out = estimate(services, rights, given, options, body.task)
        return JSONResponse(found_out.model_dump(mode="json"))
    job = NewJob(
        id=new_id,
        tenant_id=caller.tenant_id,
        task=body.task,
        input=given,
        prompt=body.prompt,
        options=options,
        output=output,
        webhook_ids=body.webhook_ids,
        labels=body.labels,
        priority=body.priority,
        deadline=body.deadline,
    )
    with services.database.transaction() as session:
        rules.check_webhooks(session, caller.tenant_id, body.webhook_ids)
        jobs.create(session, job)
        row = jobs.get(session, caller.tenant_id, job.id)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job_view(found(row, job.id), services.liveness.get())


@router.get(
    "",
    summary="List jobs, newest first",
    responses={200: _LIST_EXAMPLE, **documented("validation_failed")},
)
def list_jobs(
    caller: GivenCaller,
    services: GivenServices,
    state: JobState | None = None,
    label: Annotated[
        list[schemas.Text] | None,
        Query(description="`name:value`; a job must have all that are given.", examples=["batch:nov"]),
    ] = None,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    page_token: Annotated[
        str | None, Query(description="`next_page_token` of the answer before.", max_length=200)
    ] = None,
) -> answers.JobList:
    """Bulk jobs only: what POST /v1/ocr makes is not listed."""
    before = tokens.read(page_token, datetime.fromisoformat, UUID) if page_token else None
    labels = _read_labels(label or [])
    with services.database.transaction() as session:
        # One more than asked for, to know whether there is a next page.
        rows = jobs.listing(
            session, caller.tenant_id, limit=page_size + 1, before=before, state=state, labels=labels
        )
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["created_at"], shown[-1]["id"]) if len(rows) > page_size else None
    live = services.liveness.get()
    return answers.JobList(data=[job_view(row, live) for row in shown], next_page_token=token)


@router.get(
    "/{job_id}",
    summary="See how far a job is",
    responses={200: JOB_EXAMPLE, **documented("not_found", "validation_failed")},
)
async def get_job(
    job_id: UUID,
    caller: GivenCaller,
    services: GivenServices,
    request: Request,
    response: Response,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=60,
            description="Seconds to wait for a change: since the ETag of `If-None-Match`, else since now.",
        ),
    ] = 0,
) -> answers.Job:
    """Counts sum to their total at every moment, also while pages move. One that has ended is answered at once."""
    # Async, since FastAPI takes the answer of a plain function to a thread once more.
    job, version = await run_in_threadpool(_find_version, services, caller, job_id)
    known = request.headers.get("If-None-Match")
    if wait and job.state not in JOB_TERMINAL and etags.is_version(known, version):
        await services.watch.changed(job_id, version, wait)
        job, version = await run_in_threadpool(_find_version, services, caller, job_id)
    response.headers["ETag"] = etags.of_edition(dict(job), version)
    return job


def find_job(services: Services, caller: Caller, job_id: UUID) -> answers.Job:
    """The caller's job; NotFound for one that is another tenant's."""
    return _find_version(services, caller, job_id)[0]


def _find_version(services: Services, caller: Caller, job_id: UUID) -> tuple[answers.Job, str]:
    with services.database.statement() as session:
        row = found(jobs.get(session, caller.tenant_id, job_id), job_id)
    return job_view(row, services.liveness.get()), row["version"]


def found(row: RowMapping | None, job_id: UUID) -> RowMapping:
    """The row; NotFound where there is none."""
    if row is None:
        raise NotFound(f"There is no job {job_id}.")
    return row


def _input(body: schemas.JobRequest, caller: Caller, services: Services) -> dict[str, Any]:
    """As it is kept for the producer."""
    if not isinstance(body.input, schemas.UploadsInput):
        return body.normalized_input(services.settings.bucket)
    with services.database.transaction() as session:
        return upload_inputs.job_input(session, caller.tenant_id, body.input)


def _check(body: schemas.JobRequest, services: Services) -> dict[str, Any]:
    """The job's options; an error for what is wrong."""
    options = rules.check_wanted(services, body)
    limit = services.settings.max_inline_objects
    if isinstance(body.input, schemas.ObjectsInput) and len(body.input.objects) > limit:
        actual = len(body.input.objects)
        detail = f"List should have at most {limit} items, not {actual}; put more into a manifest"
        raise refused(("/input/objects", detail), limit=limit, actual=actual)
    return options


def _read_labels(given: list[str]) -> dict[str, Any]:
    labels: dict[str, str] = {}
    for pair in given:
        name, colon, value = pair.partition(":")
        if not (name and colon):
            raise refused(("query:label", f"{pair!r} is not of the form name:value"))
        labels[name] = value
    return labels
