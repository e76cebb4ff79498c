"""What is checked against the fleet and the settings before a job is made."""

import math
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from api import output_schema, schemas
from api.deps import Services
from api.problems import refused
from ocrfleet.catalogue import MEMBERS, TASKS, build_prompt, tasks_of
from ocrfleet.errors import NoCapacity, PromptTooLong, UnknownTask
from ocrfleet.store import lanes, webhooks


def available_tasks(services: Services) -> frozenset[str]:
    """What live engines can do or, with none alive, the configured one."""
    configured = tasks_of(services.settings.engine)
    # A worker of another version may know tasks that this catalogue does not.
    return frozenset(services.liveness.get().tasks or configured) & TASKS.keys()


def check_wanted(services: Services, asked: schemas.JobRequest | schemas.PageParameters) -> dict[str, Any]:
    """The options to keep for the job; UnknownTask, PromptTooLong, ValidationFailed for what cannot be done."""
    check_task(services, asked.task)
    check_prompt(services, asked.prompt, "/prompt")
    options = asked.options.model_dump(exclude_none=True) if asked.options else {}
    if asked.fields is not None:
        options["fields"] = asked.fields
    if asked.output_schema is not None:
        options["output_schema"] = asked.output_schema
    if faults := _misfits(asked, options):
        raise refused(*faults)
    if asked.output_schema is not None:
        limit = services.settings.max_schema_bytes
        options["output_schema"] = output_schema.check(asked.output_schema, limit)
    if asked.fields or asked.output_schema:
        where = MEMBERS["fields" if asked.fields else "output_schema"]
        check_prompt(services, build_prompt(asked.task, asked.prompt, options), where)
    return options


def _misfits(
    asked: schemas.JobRequest | schemas.PageParameters, options: dict[str, Any]
) -> list[tuple[str, str]]:
    """What the task needs and has not, and what it has no use for, as (pointer, detail)."""
    task = TASKS[asked.task]
    given = {name for name in MEMBERS if name in options}
    if (asked.prompt or "").strip():
        given.add("prompt")
    faults = [
        (MEMBERS[name], f"the task {task.name!r} has no use for it")
        for name in MEMBERS
        if name in given and name not in task.takes
    ]
    if task.needs and not given.intersection(task.needs):
        faults.append((f"/{task.needs[0]}", f"the task {task.name!r} needs {' or '.join(task.needs)}"))
    if task.name == "value" and len(asked.fields or ()) > 1:
        faults.append((MEMBERS["fields"], f"the task 'value' takes one name, not {len(asked.fields or ())}"))
    return faults


def check_task(services: Services, task: str) -> None:
    """Raise UnknownTask, with the tasks that there are."""
    known = sorted(available_tasks(services))
    if task not in known:
        raise UnknownTask(
            f"No engine of this fleet can do {task!r}; it can do {', '.join(known)}.", tasks=known
        )


def check_prompt(services: Services, prompt: str | None, pointer: str) -> None:
    """Raise PromptTooLong; `pointer` says what in the request made it so long."""
    limit = services.settings.max_prompt_chars
    actual = len(prompt or "")
    if actual > limit:
        detail = f"The prompt may have {limit} characters, it has {actual}."
        fault = {"pointer": pointer, "detail": detail}
        raise PromptTooLong(detail, limit=limit, actual=actual, errors=[fault])


def check_webhooks(
    session: Session, tenant_id: UUID, given: Sequence[UUID], pointer: str = "/webhook_ids"
) -> None:
    """Raise ValidationFailed for ids that are no webhook of the tenant's; `pointer` says where they stand."""
    missing = webhooks.missing(session, tenant_id, given)
    faults = [
        (f"{pointer}/{n}", f"there is no webhook {id_}") for n, id_ in enumerate(given) if id_ in missing
    ]
    if faults:
        raise refused(*faults)


def interactive_limit(services: Services) -> int:
    """How many interactive pages the live workers take; NoCapacity if there are none."""
    alive = services.liveness.get().workers
    if alive == 0:
        raise NoCapacity("No worker is alive.", retry_after=5)
    return services.settings.interactive_window * alive


def check_capacity(session: Session, tenant_id: UUID, limit: int, share: float) -> None:
    """Raise NoCapacity unless the interactive lane takes one more page, and the tenant leaves room for others."""
    unfinished = lanes.unfinished_interactive(session, tenant_id)
    actual = unfinished.pages
    detail = f"The live workers take {limit} interactive pages at a time, and {actual} are unfinished."
    if actual < limit and unfinished.shared:
        limit, actual = math.ceil(limit * share), unfinished.own
        detail = f"Your tenant may have {limit} interactive pages at a time, and {actual} are unfinished."
    if actual >= limit:
        raise NoCapacity(detail, retry_after=1, limit=limit, actual=actual)
