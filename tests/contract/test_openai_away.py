"""The engine `openai` and a server that is not there: at its start, and later."""

import asyncio
import socket
import threading
from dataclasses import replace

import pytest
from openai_server import HASTE, TEXT, OddServer, Reply, error, running, serving

from bench.fake_openai import MODEL
from ocrfleet import errors
from ocrfleet.settings import Settings
from worker.engines.openai import OpenAiEngine


def test_a_server_that_stays_away_makes_the_engine_unhealthy_until_it_is_back() -> None:
    async def scenario(url: str, port: int) -> None:
        async with running(url) as engine:
            await asyncio.to_thread(stop.set)
            await asyncio.to_thread(stopped.wait)
            with pytest.raises(errors.EngineCrashed):
                await engine.recognize(TEXT)
            assert engine.wanted() < 10
            assert not await engine.healthy()
            with serving(OddServer(lambda *_: Reply()), port):
                assert await engine.healthy()
                assert (await engine.recognize(TEXT)).text == "fine"

    stop, stopped = threading.Event(), threading.Event()
    port = free_port()

    def first() -> None:
        with serving(OddServer(lambda *_: Reply()), port):
            up.set()
            stop.wait()
        stopped.set()

    up = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    up.wait()
    asyncio.run(scenario(f"http://127.0.0.1:{port}/v1", port))
    thread.join()


def test_start_waits_for_a_server_that_is_not_there_yet() -> None:
    port = free_port()

    async def scenario() -> None:
        engine = OpenAiEngine(Settings(openai_url=f"http://127.0.0.1:{port}/v1"), replace(HASTE, start=10.0))
        starting = asyncio.ensure_future(engine.start())
        await asyncio.sleep(0.2)
        assert not starting.done()
        with serving(OddServer(lambda *_: Reply()), port):
            assert (await starting).model == MODEL
        await engine.stop()

    asyncio.run(scenario())


def test_start_gives_up_in_the_end() -> None:
    engine = OpenAiEngine(Settings(openai_url=f"http://127.0.0.1:{free_port()}/v1"), HASTE)
    with pytest.raises(errors.ModelLoading, match="does not answer"):
        asyncio.run(engine.start())


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (error(401, "bad key"), "bad key"),
        (Reply(body={"data": [{"id": "other"}]}), "serves other, not mine"),
    ],
)
def test_start_refuses_what_waiting_does_not_change(models: Reply, expected: str) -> None:
    with serving(OddServer(lambda *_: Reply(), models)) as url:
        engine = OpenAiEngine(Settings(openai_url=url, model="mine"), replace(HASTE, start=60.0))
        with pytest.raises(errors.ValidationFailed, match=expected):
            asyncio.run(engine.start())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
