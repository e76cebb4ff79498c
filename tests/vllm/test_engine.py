"""What every engine owes the runner, by vLLM itself; and what only it owes."""

import asyncio
from typing import Any

import numpy as np
import pytest
from conftest import MAX_PIXELS, Running
from engine_support import page
from pages import ENDING, LONG, LOOPING, request, table, until

from ocrfleet.catalogue import TASKS, Parameters
from ocrfleet.errors import (
    Canceled,
    FleetError,
    ImageTooSmall,
    OutputTruncated,
    PromptTooLong,
    RepetitionLoop,
    ValidationFailed,
)
from ocrfleet.states import Lane
from worker.engines.base import PageRequest
from worker.engines.vllm_feed import ahead
from worker.outputs.tails import MOST_REPEATS

TEXTS = [f"receipt {n}|total {n * 7}" for n in (1234, 5678, 9021, 3465, 7787, 2210, 8452, 6039)]


async def everything(running: Running, *requests: PageRequest) -> list[Any]:
    reading = (running.engine.recognize(request) for request in requests)
    return await asyncio.gather(*reading, return_exceptions=True)


def test_it_tells_what_it_is_and_is_healthy(running: Running) -> None:
    info = running.info
    assert info.name == "vllm"
    assert info.tasks == tuple(TASKS)
    assert info.in_flight == 8 + ahead(8)
    assert info.revision.startswith("local-")
    assert 0 < running.engine.wanted() <= info.in_flight
    assert running.run(running.engine.healthy())


def test_pages_read_at_once_get_what_they_get_alone(running: Running) -> None:
    requests = [request(f"p-{n}", text) for n, text in enumerate(TEXTS)]
    alone = [running.run(running.engine.recognize(one)) for one in requests]
    texts = [result.text for result in alone]
    assert len(set(texts)) == len(texts), "the pages tell nothing apart"
    together = running.run(everything(running, *requests))
    assert [result.text for result in together] == texts
    for result in together:
        assert result.finish_reason == "stop"
        assert 0 < result.confidence < 1


def test_tokens_of_prompt_image_and_output_are_counted(running: Running) -> None:
    pixels = np.full((128, 192, 3), 255, np.uint8)
    pixels[32:96, 32:160] = 0
    result = running.run(running.engine.recognize(PageRequest("counted", "text", pixels, parameters=ENDING)))
    # On a grid of 16 pixels: half as many columns and one more, half as many rows, and two around it.
    assert result.usage["image_tokens"] == (12 // 2 + 1) * (8 // 2) + 2
    # One token a byte: <bos>, <sep>, the image's two marks, the prompt, <user>, <assistant>.
    prompt = len(TASKS["text"].prompt_zh.encode()) + 6
    assert result.usage["prompt_tokens"] == result.usage["image_tokens"] + prompt
    assert result.usage["output_tokens"] > 1


def test_the_time_before_the_engine_and_in_its_queue_is_told(running: Running) -> None:
    result = running.run(running.engine.recognize(request("timed", "how long")))
    assert result.timings_ms["preprocess"] > 0
    assert result.timings_ms["engine_queue"] >= 0


def test_work_begins_with_the_first_token_and_not_while_the_page_waits(running: Running) -> None:
    begun: list[int] = []
    requests = [
        request(f"q-{n}", f"page {n}", parameters=LONG, task="table", begun=lambda n=n: begun.append(n))
        for n in range(24)
    ]

    async def scenario() -> list[int]:
        work = asyncio.ensure_future(everything(running, *requests))
        await until(lambda: len(begun) >= 8)
        early = list(begun)
        await work
        return early

    early = running.run(scenario())
    assert len(early) < 24, "more begin than the engine runs at once"
    assert sorted(begun) == list(range(24))


def test_interactive_pages_pass_bulk_ones_that_wait(running: Running) -> None:
    begun: list[str] = []

    def asked(name: str, lane: Lane) -> PageRequest:
        return request(name, name, parameters=LONG, task="table", lane=lane, begun=lambda: begun.append(name))

    async def scenario() -> None:
        bulk = asyncio.ensure_future(everything(running, *(asked(f"bulk-{n}", Lane.BULK) for n in range(24))))
        await until(lambda: len(begun) >= 4)
        await everything(running, asked("interactive", Lane.INTERACTIVE))
        await bulk

    running.run(scenario())
    assert begun.index("interactive") < 20


def test_a_loop_is_ended_and_tables_are_spared(running: Running) -> None:
    loop = request("loop", "round and round", parameters=LOOPING)
    seen, spared = running.run(everything(running, loop, table("table", "round and round")))
    assert isinstance(seen, RepetitionLoop)
    assert len(seen.extra["partial"]) >= MOST_REPEATS
    tokens = spared.extra["actual"] if isinstance(spared, FleetError) else spared.usage["output_tokens"]
    assert tokens > 100, "the table was ended for its repetitions"


def test_output_at_the_limit_of_tokens_is_an_error_that_keeps_it(running: Running) -> None:
    few = Parameters(repetition_penalty=1.5, max_tokens=4)
    (seen,) = running.run(everything(running, request("few", "much to say", parameters=few)))
    assert isinstance(seen, OutputTruncated)
    assert seen.extra["partial"]


def test_what_cannot_be_asked_is_refused_and_the_engine_goes_on(running: Running) -> None:
    strip = np.full((8, 3200, 3), 255, np.uint8)
    long, own, thin, hot, good = running.run(
        everything(
            running,
            request("long", "page", task="prompt", prompt="why? " * 1000),
            request("own", "page", task="prompt", prompt="what is <image> here?"),
            PageRequest("thin", "text", strip),
            request("hot", "page", parameters=Parameters(temperature=-1.0)),
            request("good", "page"),
        )
    )
    assert isinstance(long, PromptTooLong)
    assert long.extra["limit"] == 1024
    assert long.extra["actual"] > 5000
    assert isinstance(own, ValidationFailed)
    assert isinstance(thin, ImageTooSmall)
    assert isinstance(hot, ValidationFailed)
    assert good.text
    assert running.run(running.engine.healthy())


def test_it_works_on_after_pages_were_canceled(running: Running) -> None:
    async def scenario() -> None:
        tasks = [
            asyncio.ensure_future(running.engine.recognize(table(f"c-{n}", "never mind"))) for n in range(12)
        ]
        await asyncio.sleep(0.3)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        await until(lambda: not running.engine._core.unfinished)

    before = running.run(running.engine.recognize(request("again", "still here"))).text
    running.run(scenario())
    assert running.run(running.engine.recognize(request("again", "still here"))).text == before


def test_an_aborted_page_is_canceled_and_leaves_the_engine(running: Running) -> None:
    async def scenario() -> None:
        asked = asyncio.Event()
        page_task = asyncio.ensure_future(
            running.engine.recognize(
                request("aborted", "never mind", task="table", parameters=LONG, begun=asked.set)
            )
        )
        await asked.wait()
        await running.engine.abort("aborted")
        with pytest.raises(Canceled):
            await page_task
        await until(lambda: not running.engine._core.unfinished)

    running.run(scenario())


def test_aborting_what_is_unknown_or_done_is_ignored(running: Running) -> None:
    running.run(running.engine.abort("nobody"))
    first = running.run(running.engine.recognize(request("done", "done"))).text
    running.run(running.engine.abort("done"))
    assert running.run(running.engine.recognize(request("done", "done"))).text == first


def test_it_wants_more_while_pages_run_and_never_more_than_it_told(running: Running) -> None:
    async def scenario() -> list[int]:
        idle, seen = running.engine.wanted(), list[int]()
        work = asyncio.ensure_future(everything(running, *(table(f"w-{n}", f"w {n}") for n in range(16))))
        while not work.done():
            seen.append(running.engine.wanted())
            await asyncio.sleep(0.01)
        return [idle, *seen]

    idle, *seen = running.run(scenario())
    assert idle == ahead(8)
    assert max(seen) == running.info.in_flight


def test_pages_larger_than_the_cap_cost_no_more_than_it(running: Running) -> None:
    large = PageRequest("large", "text", np.asarray(page("a", width=2400)), parameters=ENDING)
    result = running.run(running.engine.recognize(large))
    assert 0 < result.usage["image_tokens"] <= MAX_PIXELS // 32**2 * 1.5 + 2
    halved = PageRequest(
        "halved", "text", large.pixels, parameters=Parameters(1.0, max_tokens=300, max_pixels=MAX_PIXELS // 4)
    )
    (seen,) = running.run(everything(running, halved))
    tokens = seen.usage["image_tokens"] if not isinstance(seen, FleetError) else 0
    assert tokens < result.usage["image_tokens"]
