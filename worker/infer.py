"""One page in the engine: within its time, and with an answer."""

import asyncio
from dataclasses import replace

from ocrfleet.catalogue import parameters_of
from ocrfleet.errors import EmptyOutput, EscalateError, InferenceTimeout
from ocrfleet.states import Lane
from ocrfleet.store.pages import ClaimedPage
from worker.decode import Loaded
from worker.engines.base import Engine, PageRequest, PageResult
from worker.escalation import Plan

SPOTTING = "spotting"
UNPLACED = "regions_missing"
"""The warning of a page that was to have regions, and was read without."""


async def read(
    engine: Engine, page: ClaimedPage, plan: Plan, lane: Lane, loaded: Loaded | None, limit: float
) -> PageResult:
    """What the page's task gives and, where regions are wanted and it gives none, those of a second pass over it.

    The usage is that of both; each has its own `limit` in seconds. A page is not lost for a second pass that fails.
    """
    result = await infer(engine, page, plan, lane, loaded, limit)
    if not page.all_options.get("regions") or result.regions is not None:
        return result
    if "blank_page" in result.warnings:
        return replace(result, regions=[])
    second = Plan(SPOTTING, replace(parameters_of(SPOTTING, {}), max_pixels=plan.parameters.max_pixels))
    try:
        found = await infer(engine, page, second, lane, loaded, limit)
    except EscalateError:
        return replace(result, warnings=(*result.warnings, UNPLACED))
    if found.regions is None or found.rotation != result.rotation:
        return replace(result, warnings=(*result.warnings, UNPLACED))
    usage = {
        name: result.usage.get(name, 0) + found.usage.get(name, 0)
        for name in (*result.usage, *(set(found.usage) - set(result.usage)))
    }
    return replace(result, regions=found.regions, usage=usage)


async def infer(
    engine: Engine, page: ClaimedPage, plan: Plan, lane: Lane, loaded: Loaded | None, limit: float
) -> PageResult:
    """The engine's answer, within `limit` seconds from when it begins; whoever gives up aborts the request."""
    loop = asyncio.get_running_loop()
    clock = asyncio.timeout(None)
    request = PageRequest(
        request_id=f"{page.id}-{page.fence}",
        task=plan.task,
        pixels=loaded.pixels if loaded else None,
        lane=lane,
        prompt=page.prompt if plan.task == page.task else None,
        parameters=plan.parameters,
        options=page.all_options,
        begun=lambda: clock.reschedule(loop.time() + limit),
    )
    try:
        async with clock:
            result = await engine.recognize(request)
    except TimeoutError as exc:
        await engine.abort(request.request_id)
        raise InferenceTimeout(f"the page took longer than {limit:g} s", limit=limit) from exc
    except asyncio.CancelledError:
        await engine.abort(request.request_id)
        raise
    if _empty(result) and "blank_page" not in result.warnings:
        raise EmptyOutput("the engine found no text, and did not call the page blank")
    return result


def _empty(result: PageResult) -> bool:
    return not result.text and result.markdown is None and result.fields is None
