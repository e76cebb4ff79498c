"""What is checked against the fleet and the settings before a job is made."""

from sqlalchemy.orm import Session

from api.deps import Services
from ocrfleet.catalogue import ENGINE_TASKS, TASKS
from ocrfleet.errors import NoCapacity, PromptTooLong, UnknownTask
from ocrfleet.store import lanes


def available_tasks(services: Services) -> frozenset[str]:
    """What live engines can do or, with none alive, the configured one."""
    configured = ENGINE_TASKS.get(services.settings.engine, tuple(TASKS))
    return services.liveness.get().tasks or frozenset(configured)


def check_task(services: Services, task: str) -> None:
    """Raise UnknownTask, with the tasks that there are."""
    known = sorted(available_tasks(services))
    if task not in known:
        raise UnknownTask(
            f"No engine of this fleet can do {task!r}; it can do {', '.join(known)}.", tasks=known
        )


def check_prompt(services: Services, prompt: str | None) -> None:
    """Raise PromptTooLong."""
    limit = services.settings.max_prompt_chars
    actual = len(prompt or "")
    if actual > limit:
        detail = f"The prompt may have {limit} characters, it has {actual}."
        fault = {"pointer": "/prompt", "detail": detail}
        raise PromptTooLong(detail, limit=limit, actual=actual, errors=[fault])


def interactive_limit(services: Services) -> int:
    """How many interactive pages the live workers take; NoCapacity if there are none."""
    alive = services.liveness.get().workers
    if alive == 0:
        raise NoCapacity("No worker is alive.", retry_after=5)
    return services.settings.interactive_window * alive


def check_capacity(session: Session, limit: int) -> None:
    """Raise NoCapacity unless the interactive lane takes one more page."""
    actual = lanes.unfinished_interactive(session)
    if actual >= limit:
        detail = f"The live workers take {limit} interactive pages at a time, and {actual} are unfinished."
        raise NoCapacity(detail, retry_after=1, limit=limit, actual=actual)
