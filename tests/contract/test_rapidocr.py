"""What the engine `rapidocr` owes besides: its processes, their order of work, pages of odd shape."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import psutil
import pytest
from engine_support import children, frozen, letters, page, read, running, until_gone
from PIL import Image

from ocrfleet.errors import Canceled, EmptyOutput, EngineCrashed, FleetError, UnknownTask
from ocrfleet.settings import Settings
from ocrfleet.states import Lane
from worker.engines import load
from worker.engines.base import Engine, PageRequest, PageResult


def test_a_page_aborted_while_it_is_read_or_waits_ends_canceled() -> None:
    async def scenario() -> None:
        before = children()
        async with running("rapidocr") as (engine, _):
            frozen(*children() - before)
            tasks = [read(engine, n, "in the way") for n in range(3)]
            await asyncio.sleep(0.2)
            await engine.abort("page-0")
            await engine.abort("page-2")
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(end) for end in ended] == [Canceled, PageResult, Canceled]

    asyncio.run(scenario())


def test_interactive_pages_go_before_bulk_pages_that_have_not_begun() -> None:
    ended: list[str] = []

    async def one(engine: Engine, name: str, lane: Lane) -> None:
        await engine.recognize(PageRequest(name, "text", page("first come"), lane))
        ended.append(name)

    async def scenario() -> None:
        before = children()
        async with running("rapidocr") as (engine, _), asyncio.TaskGroup() as group:
            (process,) = children() - before
            frozen(process)
            for n in range(3):
                group.create_task(one(engine, f"bulk-{n}", Lane.BULK))
            await asyncio.sleep(0.2)
            group.create_task(one(engine, "interactive", Lane.INTERACTIVE))
            await asyncio.sleep(0.2)
            os.kill(process, signal.SIGCONT)

    asyncio.run(scenario())
    assert ended == ["bulk-0", "interactive", "bulk-1", "bulk-2"]


def test_a_killed_process_costs_only_its_own_page_and_is_replaced() -> None:
    async def scenario() -> None:
        before = children()
        async with running("rapidocr") as (engine, _):
            (first,) = children() - before
            frozen(first)
            tasks = [read(engine, n, f"page {n}00") for n in range(3)]
            await asyncio.sleep(0.2)
            os.kill(first, signal.SIGKILL)
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(end) for end in ended] == [EngineCrashed, PageResult, PageResult]
            assert await engine.healthy()
            assert first not in children()

    asyncio.run(scenario())


def test_a_process_killed_while_it_is_idle_costs_no_page() -> None:
    async def scenario() -> None:
        before = children()
        async with running("rapidocr") as (engine, _):
            (first,) = children() - before
            os.kill(first, signal.SIGKILL)
            await asyncio.to_thread(until_gone, first)
            assert letters((await read(engine, 1, "unharmed")).text) == "unharmed"

    asyncio.run(scenario())


def test_a_process_that_has_read_its_share_of_pages_makes_way_for_a_fresh_one() -> None:
    async def scenario() -> None:
        before = children()
        async with running("rapidocr", process_pages=2) as (engine, _):
            (first,) = children() - before
            tasks = [read(engine, n, f"page {n}00") for n in range(3)]
            texts = [letters(result.text) for result in await asyncio.gather(*tasks)]
            assert texts == ["page000", "page100", "page200"]
            assert first not in children()

    asyncio.run(scenario())


def test_an_engine_that_cannot_replace_its_process_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        before = children()
        async with running("rapidocr") as (engine, _):
            (first,) = children() - before
            monkeypatch.setattr(sys, "executable", "/bin/false")
            os.kill(first, signal.SIGKILL)
            for number in range(2):
                with pytest.raises(EngineCrashed):
                    await read(engine, number, "nobody reads this")
            assert not await engine.healthy()

    asyncio.run(scenario())


def test_the_processes_die_with_a_killed_parent() -> None:
    program = (
        "import asyncio, psutil\n"
        "from ocrfleet.settings import Settings\n"
        "from worker.engines.rapidocr import RapidOcrEngine\n"
        "async def main():\n"
        "    await RapidOcrEngine(Settings(device='cpu:2')).start()\n"
        "    print(*(child.pid for child in psutil.Process().children()), flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        orphans = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(orphans) == 2
    _, alive = psutil.wait_procs(orphans, timeout=10)
    assert alive == [] or all(orphan.status() == psutil.STATUS_ZOMBIE for orphan in alive)


def test_turned_pages_are_set_upright() -> None:
    upright = page("The lamp went out", "only once that winter", "and nobody knew why", width=520)

    async def scenario() -> None:
        async with running("rapidocr") as (engine, _):
            straight = await engine.recognize(PageRequest("0", "text", upright))
            for turns, rotation in ((1, 90), (2, 180), (3, 270)):
                pixels = np.ascontiguousarray(np.rot90(upright, turns))
                result = await engine.recognize(PageRequest(str(rotation), "text", pixels))
                assert (result.text, result.rotation) == (straight.text, rotation)
                assert result.regions == straight.regions

    asyncio.run(scenario())


def test_a_blank_page_succeeds_and_a_picture_without_text_does_not() -> None:
    board = Image.new("RGB", (400, 400))
    for square in range(0, 64, 2):
        x, y = square % 8 + square // 8 % 2, square // 8
        board.paste("silver", (50 * x, 50 * y, 50 * x + 50, 50 * y + 50))

    async def scenario() -> None:
        async with running("rapidocr") as (engine, _):
            result = await engine.recognize(PageRequest("1", "text", page(" ")))
            assert (result.text, result.regions, result.warnings) == ("", [], ("blank_page",))
            with pytest.raises(EmptyOutput):
                await engine.recognize(PageRequest("2", "text", np.asarray(board)))

    asyncio.run(scenario())


def test_every_line_of_a_tall_page_is_read_once() -> None:
    lines = [f"entry {1000 + n}" for n in range(60)]

    async def scenario() -> None:
        async with running("rapidocr") as (engine, _):
            result = await engine.recognize(PageRequest("1", "text", page(*lines, width=300)))
            assert result.text.splitlines() == lines

    asyncio.run(scenario())


def test_what_the_engine_cannot_do_is_refused() -> None:
    async def scenario() -> None:
        async with running("rapidocr") as (engine, _):
            with pytest.raises(UnknownTask, match="formula"):
                await engine.recognize(PageRequest("1", "formula", page("x")))

    asyncio.run(scenario())
    with pytest.raises(ValueError, match="cpu:N"):
        load(Settings(engine="rapidocr", device="cuda:0"))


def test_an_engine_runs_on_a_loop_that_is_not_the_main_threads() -> None:
    results: list[PageResult | FleetError] = []

    async def scenario() -> None:
        async with running("rapidocr") as (engine, _):
            results.append(await read(engine, 1, "elsewhere"))

    thread = threading.Thread(target=lambda: asyncio.run(scenario()))
    thread.start()
    thread.join()
    assert [letters(result.text) for result in results if isinstance(result, PageResult)] == ["elsewhere"]
