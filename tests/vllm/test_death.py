"""The engine's process ends under its pages."""

import asyncio
from collections.abc import Iterator

import psutil
import pytest
from conftest import Running
from pages import request, table, until

from ocrfleet.errors import EngineCrashed, EngineUnfit
from ocrfleet.settings import Settings


@pytest.fixture
def doomed(settings: Settings) -> Iterator[Running]:
    running = Running(settings.model_copy(update={"self_test": False}))
    try:
        running.start()
        yield running
    finally:
        running.stop()


def core_of(before: set[psutil.Process]) -> psutil.Process:
    """The EngineCore that was started since."""
    found = set(psutil.Process().children(recursive=True)) - before
    (core,) = (child for child in found if "".join(child.cmdline()[:1]).startswith("VLLM::EngineCore"))
    return core


@pytest.fixture
def before() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def test_pages_in_flight_fail_at_once_as_the_engines_and_it_is_not_healthy_again(
    before: set[psutil.Process], doomed: Running
) -> None:
    async def scenario() -> list[BaseException]:
        begun: list[int] = []
        pages = [
            asyncio.ensure_future(
                doomed.engine.recognize(
                    request(f"d-{n}", f"page {n}", task="table", begun=lambda n=n: begun.append(n))
                )
            )
            for n in range(12)
        ]
        await until(lambda: begun)
        core.kill()
        async with asyncio.timeout(10):
            return await asyncio.gather(*pages, return_exceptions=True)  # type: ignore[return-value]

    core = core_of(before)
    assert doomed.run(doomed.engine.healthy())
    ended = doomed.run(scenario())
    crashed = [end for end in ended if isinstance(end, EngineCrashed)]
    assert crashed
    assert not any(end.alone for end in crashed), "they were twelve"
    assert not doomed.run(doomed.engine.healthy())
    with pytest.raises(EngineCrashed):
        doomed.run(doomed.engine.recognize(request("late", "too late")))


def test_a_page_that_was_alone_is_a_suspect(before: set[psutil.Process], doomed: Running) -> None:
    async def scenario() -> BaseException:
        begun = asyncio.Event()
        page = table("alone", "the only one")
        work = asyncio.ensure_future(
            doomed.engine.recognize(
                request("alone", "the only one", task="table", parameters=page.parameters, begun=begun.set)
            )
        )
        await begun.wait()
        core.kill()
        with pytest.raises(EngineCrashed) as seen:
            await work
        return seen.value

    core = core_of(before)
    assert doomed.run(scenario()).alone  # type: ignore[attr-defined]


def test_an_engine_that_stands_still_under_a_page_is_not_healthy(
    before: set[psutil.Process], settings: Settings
) -> None:
    update = {"self_test": False, "inference_timeout": 1.0}
    running = Running(settings.model_copy(update=update))
    core: psutil.Process | None = None
    try:
        running.start()
        core = core_of(before)
        core.suspend()

        async def scenario() -> None:
            work = asyncio.ensure_future(running.engine.recognize(table("stuck", "stuck")))
            await until(lambda: running.engine._works)
            assert await running.engine.healthy()
            await asyncio.sleep(1.5)
            assert not await running.engine.healthy()
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

        running.run(scenario())
    finally:
        if core:
            core.resume()
        running.stop()


def test_a_name_on_the_hub_without_a_revision_is_refused(settings: Settings) -> None:
    running = Running(settings.model_copy(update={"model": "tencent/HunyuanOCR"}))
    with pytest.raises(EngineUnfit, match="model_revision"):
        running.start()
    running.stop()
