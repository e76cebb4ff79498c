"""The engine `openai` against a good server and against servers that misbehave."""

import asyncio
import base64
import io
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from engine_support import page
from openai_server import RESET, SILENCE, TEXT, OddServer, Reply, Script, error, running, serving
from PIL import Image
from pydantic import SecretStr

from bench.fake_openai import MODEL, FakeOpenAi, completion
from ocrfleet import errors
from ocrfleet.catalogue import Parameters
from worker.engines.base import PageRequest, PageResult


def ask(script: Script, request: PageRequest = TEXT, **given: Any) -> tuple[Any, OddServer]:
    """The result, or the error, of one page."""

    async def scenario(url: str) -> PageResult | errors.FleetError:
        async with running(url, **given) as engine:
            try:
                return await engine.recognize(request)
            except errors.FleetError as exc:
                return exc

    server = OddServer(script)
    with serving(server) as url:
        return asyncio.run(scenario(url)), server


def image_of(asked: dict[str, Any]) -> Image.Image:
    url = asked["messages"][1]["content"][0]["image_url"]["url"]
    assert url.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_what_is_asked() -> None:
    given = Parameters(
        temperature=0.3, top_p=0.95, top_k=5, repetition_penalty=1.1, max_tokens=77, max_pixels=9000
    )
    result, server = ask(lambda *_: Reply(), replace(TEXT, parameters=given, prompt="读出来"))
    asked = server.asked[0]
    assert result.text == "fine"
    assert asked["model"] == MODEL
    assert asked["messages"][0] == {"role": "system", "content": ""}
    assert asked["messages"][1]["content"][1] == {"type": "text", "text": "读出来"}
    sampling = {"temperature": 0.3, "top_p": 0.95, "top_k": 5, "repetition_penalty": 1.1, "max_tokens": 77}
    assert {name: asked[name] for name in sampling} == sampling
    assert asked["logprobs"] is True
    assert "response_format" not in asked
    image = image_of(asked)
    assert image.width * image.height <= 9000
    assert image.mode == "L", "black on white needs no colour"


def test_a_page_in_colour_arrives_in_colour() -> None:
    pixels = page("Harbour").copy()
    pixels[:, :200] = (200, 40, 40)
    _, server = ask(lambda *_: Reply(), replace(TEXT, pixels=pixels))
    image = image_of(server.asked[0])
    assert image.size == (480, 100)
    assert np.abs(np.asarray(image)[50, 100].astype(int) - (200, 40, 40)).max() < 12


def test_a_page_without_pixels_is_our_own_fault() -> None:
    failed, server = ask(lambda *_: Reply(), replace(TEXT, pixels=None))
    assert isinstance(failed, errors.Internal)
    assert server.asked == []


def test_the_key_goes_along() -> None:
    _, server = ask(lambda *_: Reply(), openai_api_key=SecretStr("k-1"))
    assert set(server.authorization) == {"bearer k-1"}


def test_usage_and_probabilities_come_back() -> None:
    said = completion("Grüße")
    raw = "Grüße".encode()
    said["choices"][0]["logprobs"]["content"] = [
        {"token": "Gr\ufffd", "logprob": -0.1, "bytes": list(raw[:3])},
        {"token": "\ufffdße", "logprob": -0.3, "bytes": list(raw[3:])},
        {"token": "</s>", "logprob": -9.0, "bytes": list(b"</s>")},
    ]
    result, _ = ask(lambda *_: Reply(body=said))
    assert result.text == "Grüße"
    assert result.usage["prompt_tokens"] == 10
    assert result.timings_ms["preprocess"] >= 0
    assert result.confidence is None or result.confidence == pytest.approx(np.exp(-0.2), abs=0.02)


@pytest.mark.parametrize(("status", "expected"), [(429, errors.RateLimited), (503, errors.NoCapacity)])
def test_a_busy_server_is_asked_again_and_then_left_alone(
    status: int, expected: type[errors.FleetError]
) -> None:
    result, _ = ask(lambda _, n: error(status, "busy") if n < 2 else Reply())
    assert result.text == "fine"
    result, server = ask(lambda *_: error(status, "busy"))
    assert isinstance(result, expected)
    assert result.free
    assert len(server.asked) > 3


def test_retry_after_is_kept() -> None:
    times: list[float] = []

    def script(_: dict[str, Any], n: int) -> Reply:
        times.append(time.monotonic())
        return error(429, "busy", "Retry-After: 0.3\r\n") if n == 0 else Reply()

    result, _ = ask(script)
    assert result.text == "fine"
    assert times[1] - times[0] >= 0.3


def test_a_wait_longer_than_the_patience_is_not_begun() -> None:
    result, server = ask(lambda *_: error(429, "busy", "Retry-After: 60\r\n"))
    assert isinstance(result, errors.RateLimited)
    assert result.extra["retry_after"] == 60
    assert len(server.asked) == 1


BROKEN = {
    "reset": Reply(RESET),
    "bad gateway": Reply(502, b"<html>"),
    "internal": error(500, "oops"),
    "no JSON": Reply(200, b"<html>hello"),
    "no choices": Reply(200, {"choices": []}),
    "given up": Reply(200, {"choices": [{"message": {"content": "half"}, "finish_reason": "abort"}]}),
    "key refused": error(401, "who are you"),
    "model gone": error(404, "no such model"),
}
every_break = pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN)


@every_break
def test_a_broken_answer_is_not_the_page_s_fault(reply: Reply) -> None:
    result, server = ask(lambda *_: reply)
    assert isinstance(result, errors.EngineCrashed)
    assert result.free
    assert not result.alone
    assert len(server.asked) > 2


@every_break
def test_a_break_that_passes_is_not_seen(reply: Reply) -> None:
    result, _ = ask(lambda _, n: reply if n == 0 else Reply())
    assert result.text == "fine"


def test_a_page_that_breaks_a_server_which_reads_others_is_at_fault() -> None:
    result, _ = ask(lambda asked, _: Reply() if asked["max_tokens"] == 1 else error(500, "assertion failed"))
    assert isinstance(result, errors.Internal)
    assert "assertion failed" in result.detail


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (error(400, "This model's maximum context length is 4096 tokens."), errors.PromptTooLong),
        (error(400, "cannot identify image file"), errors.ValidationFailed),
        (error(413, "body too large"), errors.EngineOom),
        (Reply(body={"choices": [{"message": {"content": {"a": 1}}}]}), errors.OutputInvalid),
    ],
)
def test_refusals_of_the_page_itself(reply: Reply, expected: type[errors.FleetError]) -> None:
    result, server = ask(lambda *_: reply)
    assert isinstance(result, expected)
    assert len(server.asked) == 1


def test_members_that_a_server_does_not_know_are_left_out_from_then_on() -> None:
    def script(asked: dict[str, Any], _: int) -> Reply:
        for name in ("repetition_penalty", "logprobs"):
            if name in asked:
                return error(400, f"Unrecognized request argument supplied: {name}")
        return Reply()

    async def scenario(url: str) -> None:
        async with running(url) as engine:
            assert (await engine.recognize(TEXT)).text == "fine"
            asked = len(server.asked)
            assert (await engine.recognize(TEXT)).text == "fine"
            assert len(server.asked) == asked + 1

    server = OddServer(script)
    with serving(server) as url:
        asyncio.run(scenario(url))


def test_an_abort_closes_the_request() -> None:
    async def scenario(url: str) -> None:
        begun = asyncio.Event()
        async with running(url) as engine:
            task = asyncio.ensure_future(engine.recognize(replace(TEXT, begun=begun.set)))
            await begun.wait()
            assert await asyncio.to_thread(asked.wait, 5)
            await engine.abort("page-1")
            with pytest.raises(errors.Canceled):
                await task
            assert await asyncio.to_thread(server.gone.wait, 5)

    asked = threading.Event()

    def script(*_: object) -> Reply:
        asked.set()
        return Reply(SILENCE)

    server = OddServer(script)
    with serving(server) as url:
        asyncio.run(scenario(url))


def test_it_wants_less_from_a_server_that_refuses_and_more_again_later() -> None:
    busy = threading.Event()

    async def scenario(url: str) -> None:
        async with running(url, openai_in_flight=32) as engine:
            full = engine.wanted()
            busy.set()
            await asyncio.gather(
                *(engine.recognize(replace(TEXT, request_id=str(n))) for n in range(8)),
                return_exceptions=True,
            )
            low = engine.wanted()
            assert low < full / 2
            busy.clear()
            for n in range(60):
                await engine.recognize(replace(TEXT, request_id=str(n)))
            assert low < engine.wanted() <= full

    server = OddServer(lambda *_: error(429, "busy") if busy.is_set() else Reply())
    with serving(server) as url:
        asyncio.run(scenario(url))


def test_no_more_requests_than_allowed_are_open() -> None:
    async def scenario(url: str) -> None:
        async with running(url, openai_in_flight=3) as engine:
            await asyncio.gather(*(engine.recognize(replace(TEXT, request_id=str(n))) for n in range(12)))

    server = FakeOpenAi(0.02, at_once=64)
    with serving(server) as url:
        asyncio.run(scenario(url))
    assert server.peak == 3
    assert server.served == 12
