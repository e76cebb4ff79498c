"""One page in the engine: within its time, and with an answer."""

import asyncio

from ocrfleet.errors import EmptyOutput, InferenceTimeout
from ocrfleet.states import Lane
from ocrfleet.store.pages import ClaimedPage
from worker.decode import Loaded
from worker.engines.base import Engine, PageRequest, PageResult
from worker.escalation import Plan


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
