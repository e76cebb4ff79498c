"""Why a job waits, or what it does, for people and for programs."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.answers import JOB_ID
from api.deps import GivenCaller, GivenServices
from api.examples import example
from api.jobs import found
from api.problems import documented
from api.reasons import reasons
from api.views import seen
from ocrfleet.states import JobState
from ocrfleet.store import explain, jobs

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
_EXAMPLE: dict[str, Any] = {
    "job_id": JOB_ID,
    "state": "running",
    "reasons": [
        {
            "code": "no_workers",
            "sentence": "No worker is alive.",
            "next_step": "start one on a machine with a GPU: ocrfleet workers start",
        }
    ],
}


class Reason(BaseModel):
    """One thing that keeps the job waiting, that it does, or that it has lost."""

    code: str = Field(
        description="For programs: `paused`, `no_workers`, `window_full`, an error's code and so on."
    )
    sentence: str
    next_step: str | None = Field(description="What can be done about it; null: nothing need be.")


class Explanation(BaseModel):
    """Why a job waits, or what it does."""

    model_config = example(_EXAMPLE)

    job_id: UUID
    state: JobState
    reasons: list[Reason] = Field(description="What weighs most comes first.")


@router.get(
    "/{job_id}/explain",
    summary="See why a job waits",
    responses=documented("not_found", "validation_failed"),
)
def explain_job(job_id: UUID, caller: GivenCaller, services: GivenServices) -> Explanation:
    """In sentences, with the next step. Of other tenants only how many there are, and how many pages they have."""
    with services.database.transaction() as session:
        row = found(jobs.get(session, caller.tenant_id, job_id), job_id)
        facts = explain.facts(session, row, services.settings.heartbeat_timeout)
    job, standings = seen(row, services.liveness.get(), facts.now)
    told = [Reason(**reason._asdict()) for reason in reasons(job, standings, facts)]
    return Explanation(job_id=job_id, state=job.state, reasons=told)
