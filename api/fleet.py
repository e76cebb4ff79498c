"""The workers, and what waits for them."""

from fastapi import APIRouter

from api import answers
from api.deps import GivenCaller, GivenServices
from api.problems import documented
from ocrfleet.store import lanes, workers

router = APIRouter(prefix="/v1/fleet", tags=["fleet"])


@router.get("", summary="See the workers and the backlog", responses=documented())
def get_fleet(_caller: GivenCaller, services: GivenServices) -> answers.Fleet:
    """The fleet is shared: workers and backlog are those of all tenants."""
    with services.database.transaction() as session:
        found = workers.fleet(session, services.settings.heartbeat_timeout)
        backlog = lanes.backlog(session)
    return answers.Fleet(
        workers=[answers.WorkerInfo.model_validate(dict(row)) for row in found],
        backlog={lane: answers.LaneBacklog.model_validate(waiting) for lane, waiting in backlog.items()},
    )
