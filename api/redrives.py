"""Redrives: dead letters run again, at a rate, with other options where asked."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import Field
from sqlalchemy import RowMapping

from api import letter_answers as answers
from api import tokens
from api.deps import GivenCaller, GivenServices, Services
from api.idempotency import NewId
from api.letters import Reason, check_meant
from api.problems import documented, refused
from api.schemas import JobOptions, Strict
from ocrfleet.errors import JobStateConflict, NotFound
from ocrfleet.states import JobState
from ocrfleet.store import jobs, redrives
from ocrfleet.store.letters import LetterFilter
from ocrfleet.store.redrives import NewRedrive, Plan
from ocrfleet.store.tenants import Caller

router = APIRouter(tags=["dead letters"])
RedriveId = Annotated[int, Path(ge=1, lt=2**63)]
_GIVEN_UP = (JobState.CANCELING, JobState.CANCELED, JobState.FAILED)
_MOST_JOBS = 100
_LOCATION = {"headers": {"Location": {"description": "The redrive.", "schema": {"type": "string"}}}}
EXAMPLES: dict[str, Any] = {
    "rate": {
        "summary": "Every page of one code, 50 a second",
        "value": {
            "filter": {"codes": ["storage_unavailable"]},
            "max_per_second": 50,
            "reason": "the store is back",
        },
    },
    "password": {
        "summary": "Encrypted PDFs of a job, with their password",
        "value": {
            "filter": {"job_id": answers.JOB_ID, "codes": ["encrypted_pdf"]},
            "override": {"options": {"password": "…"}},
        },
    },
    "dry run": {"summary": "What would happen", "value": {"filter": {"all": True}, "validate_only": True}},
}
RETRY_EXAMPLES: dict[str, Any] = {
    "all": {"summary": "Every page that failed", "value": {}},
    "parameters": {
        "summary": "What was cut off, with more tokens",
        "value": {
            "filter": {"codes": ["output_truncated"]},
            "override": {"options": {"parameters": {"max_tokens": 16384}}},
        },
    },
}


class Override(Strict):
    """What is done otherwise this time."""

    options: JobOptions = Field(description="Over those of the job and of the object, one by one.")


class _Again(Strict):
    override: Override | None = None
    max_per_second: float | None = Field(
        default=None, gt=0, le=1_000_000, description="Pages that may begin in a second."
    )
    reason: Reason | None = None

    @property
    def options(self) -> dict[str, Any]:
        return self.override.options.model_dump(exclude_none=True) if self.override else {}


class RetryRequest(_Again):
    """Which failed pages of the job run again, and how; nothing means all of them."""

    filter: LetterFilter = LetterFilter()


class RedriveRequest(_Again):
    """Which letters run again, and how."""

    filter: LetterFilter
    validate_only: bool = Field(default=False, description="Only tell what would happen.")


@router.post(
    "/v1/redrives",
    status_code=202,
    response_model=answers.RedriveDetail,
    summary="Run dead letters again",
    responses={
        200: {"model": answers.RedrivePlan, "description": "What it would do (`validate_only`)."},
        202: _LOCATION,
        **documented("validation_failed"),
    },
)
def create_redrive(
    body: Annotated[RedriveRequest, Body(openapi_examples=EXAMPLES)],
    caller: GivenCaller,
    services: GivenServices,
    response: Response,
    new_id: NewId,
) -> answers.RedriveDetail | Response:
    """Pages keep their ids and their history. Those of jobs that were canceled, failed or deleted are left out."""
    check_meant(body.filter)
    if body.validate_only:
        with services.database.transaction() as session:
            plan = redrives.plan(session, caller.tenant_id, body.filter)
        return Response(
            _plan(plan, body.max_per_second).model_dump_json(), 200, media_type="application/json"
        )
    return _make(services, caller, _new(caller, body, body.filter, new_id), "redrive", response)


@router.get("/v1/redrives", summary="List redrives, newest first", responses=documented("validation_failed"))
def list_redrives(
    caller: GivenCaller,
    services: GivenServices,
    page_size: Annotated[int, Query(ge=1, le=100)] = 20,
    page_token: Annotated[
        str | None, Query(description="`next_page_token` of the answer before.", max_length=200)
    ] = None,
) -> answers.RedriveList:
    """Each with what became of its pages so far."""
    (before,) = tokens.read(page_token, int) if page_token else (None,)
    with services.database.transaction() as session:
        rows = redrives.listing(session, caller.tenant_id, limit=page_size + 1, before=before)
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["id"]) if len(rows) > page_size else None
    return answers.RedriveList(
        data=[answers.Redrive(**_redrive(row)) for row in shown], next_page_token=token
    )


@router.get(
    "/v1/redrives/{redrive_id}",
    summary="See how far a redrive is",
    responses=documented("not_found", "validation_failed"),
)
def get_redrive(redrive_id: RedriveId, caller: GivenCaller, services: GivenServices) -> answers.RedriveDetail:
    """Its pages by state, what is still to be brought back, and what was left out."""
    return _find(services, caller, redrive_id)


@router.post(
    "/v1/jobs/{job_id}/retry",
    status_code=202,
    tags=["jobs"],
    summary="Run a job's failed pages again",
    responses={202: _LOCATION, **documented("not_found", "job_state_conflict", "validation_failed")},
)
def retry_job(
    job_id: UUID,
    caller: GivenCaller,
    services: GivenServices,
    response: Response,
    new_id: NewId,
    body: Annotated[RetryRequest | None, Body(openapi_examples=RETRY_EXAMPLES)] = None,
) -> answers.RedriveDetail:
    """A redrive whose filter names the job, which goes on under its next generation if it had ended."""
    asked = body or RetryRequest()
    if asked.filter.job_id not in (None, job_id):
        raise refused(("/filter/job_id", "is not the job of the path"))
    with services.database.statement() as session:
        job = jobs.get(session, caller.tenant_id, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    if job["state"] in _GIVEN_UP:
        raise JobStateConflict(f"The job is {job['state']}; its pages do not run again.", state=job["state"])
    which = asked.filter.model_copy(update={"job_id": job_id})
    return _make(services, caller, _new(caller, asked, which, new_id), "retry", response)


def _new(caller: Caller, asked: _Again, which: LetterFilter, new_id: UUID) -> NewRedrive:
    return NewRedrive(caller.tenant_id, which, asked.options, asked.max_per_second, asked.reason, new_id)


def _make(
    services: Services, caller: Caller, new: NewRedrive, act: str, response: Response
) -> answers.RedriveDetail:
    with services.database.transaction() as session:
        redrive_id = redrives.create(session, new, caller.key_id, act)
    response.headers["Location"] = f"/v1/redrives/{redrive_id}"
    return _find(services, caller, redrive_id)


def _find(services: Services, caller: Caller, redrive_id: int) -> answers.RedriveDetail:
    with services.database.transaction() as session:
        found = redrives.get(session, caller.tenant_id, redrive_id)
    if found is None:
        raise NotFound(f"There is no redrive {redrive_id}.")
    row, left = found
    # What has died since is another redrive's: nothing remains of one that is finished.
    remaining = 0 if row["finished_at"] else left.pages
    return answers.RedriveDetail(**_redrive(row), remaining=remaining, left_out=dict(left.left_out))


def _redrive(row: RowMapping) -> dict[str, Any]:
    shown = redrives.disclosed(row["override"])
    return {
        **row,
        "id": str(row["id"]),
        "override": {"options": shown} if shown else {},
        "progress": answers.Progress(**{name: row[name] for name in answers.Progress.model_fields}),
    }


def _plan(plan: Plan, rate: float | None) -> answers.RedrivePlan:
    largest = dict(list(plan.by_job.items())[:_MOST_JOBS])
    return answers.RedrivePlan(
        pages=plan.pages,
        by_code=dict(plan.by_code),
        jobs=len(plan.by_job),
        by_job=largest,
        left_out=dict(plan.left_out),
        seconds=plan.pages / rate if rate else None,
    )
