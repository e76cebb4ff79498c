"""The catalogue of tasks."""

from fastapi import APIRouter

from api import answers
from api.deps import GivenCaller, GivenServices
from api.problems import documented
from api.rules import available_tasks
from ocrfleet.catalogue import TASKS

router = APIRouter(prefix="/v1/tasks", tags=["fleet"])


@router.get("", summary="List the tasks", responses=documented())
def list_tasks(_caller: GivenCaller, services: GivenServices) -> answers.TaskList:
    """A task that is not available is refused at submission."""
    available = available_tasks(services)
    tasks = [
        answers.TaskInfo(available=task.name in available, **task.described()) for task in TASKS.values()
    ]
    return answers.TaskList(data=tasks)
