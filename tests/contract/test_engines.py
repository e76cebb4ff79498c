"""What every engine owes the runner."""

import asyncio
import hashlib

import pytest
from engine_support import children, frozen, letters, page, read, running

from ocrfleet.settings import Settings
from worker.engines.base import PageRequest, Pixels
from worker.engines.openai_messages import jpeg

every_engine = pytest.mark.parametrize("name", ["null", "openai", "rapidocr"])


def expected(name: str, pixels: Pixels, text: str) -> str:
    match name:
        case "null":
            return hashlib.sha256(pixels.tobytes()).hexdigest()
        case "openai":
            # So says the fake server of the image that came to it.
            return hashlib.sha256(jpeg(pixels, Settings().max_pixels)).hexdigest()
        case _:
            return text


@every_engine
def test_an_engine_tells_what_it_is_and_is_healthy(name: str) -> None:
    async def scenario() -> None:
        async with running(name) as (engine, info):
            assert info.name == name
            assert info.model
            assert info.revision
            assert {"text", "spotting", "parse"} <= set(info.tasks)
            assert info.in_flight >= 1
            assert await engine.healthy()

    asyncio.run(scenario())


@every_engine
def test_each_task_fills_its_member_of_the_result(name: str) -> None:
    pixels = page("Harbour lights", "burn all night")

    async def scenario() -> None:
        async with running(name) as (engine, _):
            for task in ("text", "spotting", "parse"):
                result = await engine.recognize(PageRequest(task, task, pixels))
                assert letters(result.text) == expected(name, pixels, "Harbourlightsburnallnight")
                assert result.rotation == 0
                if task == "parse":
                    assert result.markdown
                if task == "spotting":
                    assert result.regions
                    for region in result.regions:
                        x0, y0, x1, y1 = region.box
                        assert 0 <= x0 < x1 <= pixels.shape[1]
                        assert 0 <= y0 < y1 <= pixels.shape[0]

    asyncio.run(scenario())


@every_engine
def test_pages_read_at_once_get_their_own_texts(name: str) -> None:
    texts = [f"receipt {n}" for n in (1234, 5678, 9021, 3465, 7787, 2210, 8452, 6039)]

    async def scenario() -> None:
        async with running(name, "cpu:2") as (engine, _):
            results = await asyncio.gather(*(read(engine, n, text) for n, text in enumerate(texts)))
            for text, result in zip(texts, results, strict=True):
                assert letters(result.text) == letters(expected(name, page(text), text))

    asyncio.run(scenario())


@every_engine
def test_an_engine_works_on_after_a_page_was_canceled(name: str) -> None:
    async def scenario() -> None:
        before = children()
        async with running(name, null_latency=0.5) as (engine, _):
            for process in children() - before:
                frozen(process)
            tasks = [read(engine, n, "never mind") for n in range(6)]
            await asyncio.sleep(0.2)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended)
            result = await read(engine, 0, "still here")
            assert letters(result.text) == letters(expected(name, page("still here"), "still here"))
            assert await engine.healthy()

    asyncio.run(scenario())


@every_engine
def test_aborting_what_is_unknown_or_done_is_ignored(name: str) -> None:
    async def scenario() -> None:
        async with running(name) as (engine, _):
            await engine.abort("nobody")
            await read(engine, 1, "done")
            await engine.abort("page-1")
            assert (await read(engine, 1, "done")).text

    asyncio.run(scenario())


@every_engine
def test_stop_leaves_no_process_behind(name: str) -> None:
    async def scenario() -> None:
        before = children()
        async with running(name, null_latency=0.2) as (engine, _):
            for process in children() - before:
                frozen(process)
            task = read(engine, 1, "unfinished")
            await asyncio.sleep(0.1)
        await asyncio.gather(task, return_exceptions=True)
        assert children() <= before

    asyncio.run(scenario())
