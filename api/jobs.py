"""Submitting jobs, and seeing how far they are."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import orjson
from fastapi import APIRouter, Body, Query, Response
from sqlalchemy import RowMapping
from starlette.concurrency import run_in_threadpool

from api import answers, examples, rules, schemas
from api.deps import GivenCaller, GivenServices, Services
from api.problems import documented, refused
from api.views import job_view
from ocrfleet.errors import NotFound
from ocrfleet.states import JobState
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
    responses={
        202: JOB_EXAMPLE
        | {"headers": {"Location": {"description": "The job.", "schema": {"type": "string"}}}},
        **documented("validation_failed", "unknown_task", "prompt_too_long", "file_too_large"),
    },
)
def create_job(
    body: Annotated[schemas.JobRequest, Body(openapi_examples=examples.JOB_EXAMPLES)],
    caller: GivenCaller,
    services: GivenServices,
    response: Response,
) -> answers.Job:
    """Accept a job at once; its input is read later, so an object that is missing shows in the results."""
    options = _check(body, services)
    job = NewJob(
        id=uuid4(),
        tenant_id=caller.tenant_id,
        task=body.task,
        input=body.normalized_input(services.settings.bucket),
        prompt=body.prompt,
        options=options,
        output=body.output.model_dump(exclude_none=True) if body.output else {},
        webhook_ids=body.webhook_ids,
        labels=body.labels,
        priority=body.priority,
        deadline=body.deadline,
    )
    with services.database.transaction() as session:
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
        list[str] | None,
        Query(description="`name:value`; a job must have all that are given.", examples=["batch:nov"]),
    ] = None,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    page_token: Annotated[
        str | None, Query(description="`next_page_token` of the answer before.", max_length=200)
    ] = None,
) -> answers.JobList:
    """Bulk jobs only: what POST /v1/ocr makes is not listed."""
    before = _read_token(page_token) if page_token else None
    labels = _read_labels(label or [])
    with services.database.transaction() as session:
        # One more than asked for, to know whether there is a next page.
        rows = jobs.listing(
            session, caller.tenant_id, limit=page_size + 1, before=before, state=state, labels=labels
        )
    shown = rows[:page_size]
    token = _token(shown[-1]["created_at"], shown[-1]["id"]) if len(rows) > page_size else None
    live = services.liveness.get()
    return answers.JobList(data=[job_view(row, live) for row in shown], next_page_token=token)


@router.get(
    "/{job_id}",
    summary="See how far a job is",
    responses={200: JOB_EXAMPLE, **documented("not_found", "validation_failed")},
)
async def get_job(job_id: UUID, caller: GivenCaller, services: GivenServices) -> answers.Job:
    """Counts sum to their total at every moment, also while pages move."""
    # Async, since FastAPI takes the answer of a plain function to a thread once more.
    return await run_in_threadpool(find_job, services, caller, job_id)


def find_job(services: Services, caller: Caller, job_id: UUID) -> answers.Job:
    """The caller's job; NotFound for one that is another tenant's."""
    with services.database.statement() as session:
        row = jobs.get(session, caller.tenant_id, job_id)
    return job_view(found(row, job_id), services.liveness.get())


def found(row: RowMapping | None, job_id: UUID) -> RowMapping:
    """The row; NotFound where there is none."""
    if row is None:
        raise NotFound(f"There is no job {job_id}.")
    return row


def _check(body: schemas.JobRequest, services: Services) -> dict[str, Any]:
    """The job's options; an error for what is wrong."""
    options = rules.check_wanted(services, body)
    limit = services.settings.max_inline_objects
    if isinstance(body.input, schemas.ObjectsInput) and len(body.input.objects) > limit:
        actual = len(body.input.objects)
        detail = f"List should have at most {limit} items, not {actual}; put more into a manifest"
        raise refused(("/input/objects", detail), limit=limit, actual=actual)
    return options


def _token(created_at: datetime, job_id: UUID) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([created_at, job_id])).decode()


def _read_token(token: str) -> tuple[datetime, UUID]:
    try:
        created_at, job_id = orjson.loads(base64.urlsafe_b64decode(token))
        return datetime.fromisoformat(created_at), UUID(job_id)
    except (binascii.Error, ValueError, TypeError, AttributeError) as exc:
        raise refused(("query:page_token", "is none that this API has given out")) from exc


def _read_labels(given: list[str]) -> dict[str, Any]:
    labels: dict[str, str] = {}
    for pair in given:
        name, colon, value = pair.partition(":")
        if not (name and colon) or "\0" in pair:
            raise refused(("query:label", f"{pair!r} is not of the form name:value"))
        labels[name] = value
    return labels
