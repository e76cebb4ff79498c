"""What a caller does to a job: cancel, pause, resume, change, delete; each may be repeated."""

from typing import Annotated, Any, Protocol
from uuid import UUID

from fastapi import APIRouter, Body, Header, Response
from pydantic import Field
from sqlalchemy.orm import Session

from api import answers, etags
from api.deps import GivenCaller, GivenServices, Services
from api.jobs import JOB_EXAMPLE, found
from api.problems import documented, refused
from api.schemas import MAX_LABELS, Deadline, LabelName, Name, Priority, Strict
from api.views import job_view
from ocrfleet.errors import JobStateConflict
from ocrfleet.states import Lane
from ocrfleet.store import control, jobs
from ocrfleet.store.control import Changes
from ocrfleet.store.tenants import Caller

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


def _example(**members: object) -> dict[str, Any]:
    return {"content": {"application/json": {"example": answers.JOB | members}}}


CHANGE_EXAMPLES: dict[str, Any] = {
    "hurry": {
        "summary": "Go first, and end in time",
        "value": {"priority": 9, "deadline": "2026-11-21T06:00:00Z"},
    },
    "labels": {
        "summary": "Set one label, take one away",
        "value": {"labels": {"batch": "dec", "draft": None}},
    },
    "no deadline": {"summary": "Take the deadline away", "value": {"deadline": None}},
}
_REFUSALS = documented("not_found", "validation_failed", "job_state_conflict")


class JobChanges(Strict):
    """What is to be different; members that are not there stay as they are."""

    priority: Priority = 0
    deadline: Deadline | None = Field(None, description="What is not done by then is canceled; null: none.")
    labels: dict[LabelName, Name | None] = Field(
        default_factory=dict[str, str | None],
        max_length=2 * MAX_LABELS,
        description="Put over those the job has; null takes one away.",
    )


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    responses={202: _example(state="canceling"), **_REFUSALS},
)
def cancel_job(job_id: UUID, caller: GivenCaller, services: GivenServices) -> answers.Job:
    """Nothing more is begun; pages under way are aborted within two seconds, and the job is then `canceled`.

    Results from before stay.
    """
    return _act(services, caller, job_id, control.cancel)


@router.post(
    "/{job_id}/pause",
    status_code=202,
    summary="Pause a job",
    responses={
        202: _example(state="paused", blocked_on="paused", eta=None, eta_reason="paused"),
        **_REFUSALS,
    },
)
def pause_job(job_id: UUID, caller: GivenCaller, services: GivenServices) -> answers.Job:
    """Nothing more is begun; pages under way are finished, and the input is read on."""
    return _act(services, caller, job_id, control.pause, bulk=True)


@router.post(
    "/{job_id}/resume",
    status_code=202,
    summary="Let a paused job go on",
    responses={202: JOB_EXAMPLE, **_REFUSALS},
)
def resume_job(job_id: UUID, caller: GivenCaller, services: GivenServices) -> answers.Job:
    """From where it was. A job that is not paused is left as it is."""
    return _act(services, caller, job_id, control.resume)


@router.patch(
    "/{job_id}",
    summary="Change a job",
    responses={200: JOB_EXAMPLE, **_REFUSALS, **documented("precondition_failed")},
)
def change_job(
    job_id: UUID,
    body: Annotated[JobChanges, Body(openapi_examples=CHANGE_EXAMPLES)],
    caller: GivenCaller,
    services: GivenServices,
    response: Response,
    if_match: Annotated[
        str | None, Header(description="The job's ETag: 412 if what may be changed was changed since.")
    ] = None,
) -> answers.Job:
    """Its priority, deadline and labels (a JSON merge patch). Of a job that has ended only the labels."""
    changes = Changes(**body.model_dump(exclude_unset=True))

    def change(session: Session, tenant_id: UUID, job_id: UUID, *, actor: str) -> None:
        if if_match is not None:
            found(jobs.get(session, tenant_id, job_id), job_id)
            jobs.lock(session, [job_id])
            etags.check_match(if_match, found(jobs.get(session, tenant_id, job_id), job_id))
        control.change(session, tenant_id, job_id, changes, actor=actor)

    job = _act(services, caller, job_id, change, bulk="deadline" in changes)
    response.headers["ETag"] = etags.of_edition(dict(job))
    return job


@router.delete(
    "/{job_id}",
    status_code=202,
    summary="Delete a job and its results",
    responses={202: _example(state="completed", outcome="succeeded"), **_REFUSALS},
)
def delete_job(job_id: UUID, caller: GivenCaller, services: GivenServices) -> answers.Job:
    """Only of a job that has ended. From now on it is found no more; its rows and cached results go bit by bit."""
    return _act(services, caller, job_id, control.delete)


class _Act(Protocol):
    def __call__(self, session: Session, tenant_id: UUID, job_id: UUID, /, *, actor: str) -> object: ...


def _act(services: Services, caller: Caller, job_id: UUID, act: _Act, *, bulk: bool = False) -> answers.Job:
    """Do it, write it down, and see what the job is then, in one transaction; `bulk`: not to a page of POST /v1/ocr."""
    with services.database.transaction() as session:
        act(session, caller.tenant_id, job_id, actor=caller.key_id)
        row = found(jobs.get(session, caller.tenant_id, job_id, purged=True), job_id)
        if bulk and row["lane"] != Lane.BULK:
            # It would keep its place among those that are read at once.
            raise JobStateConflict("A page of POST /v1/ocr is not paused, and its deadline stays; cancel it.")
        if len(row["labels"]) > MAX_LABELS:
            detail = f"The job should have at most {MAX_LABELS} labels, not {len(row['labels'])}"
            raise refused(("/labels", detail), limit=MAX_LABELS, actual=len(row["labels"]))
    return job_view(row, services.liveness.get())
