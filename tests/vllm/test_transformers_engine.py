"""The engine `transformers` on a CPU with a tiny checkpoint of random weights."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from ocrfleet.catalogue import Parameters
from ocrfleet.errors import Canceled, EngineUnfit, FleetError
from ocrfleet.settings import Settings
from worker.engines.base import EngineInfo, PageRequest, Pixels
from worker.engines.transformers import TransformersEngine
from worker.outputs.generated import Generated

LONG = 2000
"""Tokens that take far longer than a test waits."""


def noise(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 255, (128, 160, 3), np.uint8)


def request(name: str, pixels: Pixels, *, max_tokens: int = 12, temperature: float = 0.0) -> PageRequest:
    given = Parameters(max_tokens=max_tokens, temperature=temperature)
    return PageRequest(name, "text", pixels, parameters=given)


class Recording(TransformersEngine):
    """Keeps what the model gave, before it is interpreted: its noise need not be a result."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.generated: dict[str, Generated] = {}

    def _generate(self, request: PageRequest, *rest: object) -> Generated:
        made = super()._generate(request, *rest)  # type: ignore[arg-type]
        self.generated[request.request_id] = made
        return made

    async def raw(self, page: PageRequest) -> Generated:
        with contextlib.suppress(FleetError):
            await self.recognize(page)
        return self.generated[page.request_id]


@asynccontextmanager
async def running(checkpoint: Path) -> AsyncGenerator[tuple[Recording, EngineInfo]]:
    engine = Recording(Settings(model=str(checkpoint), device="cpu:1", model_dtype="float32"))
    info = await engine.start()
    try:
        yield engine, info
    finally:
        await engine.stop()


def test_it_tells_the_folder_s_content_as_revision(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as (engine, info):
            assert info.revision.startswith("local-")
            assert "text" in info.tasks
            assert await engine.healthy()

    asyncio.run(scenario())


def test_each_page_gets_its_own_text_and_the_same_again(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as (engine, _):
            pages = [request(f"page-{n}", noise(n)) for n in range(3)]
            at_once = await asyncio.gather(*(engine.raw(page) for page in pages))
            alone = [await engine.raw(page) for page in pages]
            assert [one.text for one in at_once] == [one.text for one in alone]
            assert len({one.text for one in alone}) == 3

    asyncio.run(scenario())


def test_the_tokens_make_up_the_text_and_have_probabilities(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as (engine, _):
            made = await engine.raw(request("page", noise(1), max_tokens=12))
            assert made.output_tokens == len(made.tokens)
            assert made.output_tokens <= 12
            assert made.image_tokens > 0
            assert made.prompt_tokens > made.image_tokens
            assert all(-50 < logprob <= 0 for _, logprob in made.tokens)
            pieces = "".join(piece for piece, _ in made.tokens)
            assert made.text.rstrip("\ufffd").startswith(pieces.rstrip("\ufffd"))

    asyncio.run(scenario())


def test_the_token_limit_is_told_apart_from_an_end(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as (engine, _):
            made = [await engine.raw(request(f"p{n}", noise(n), max_tokens=2)) for n in range(4)]
            assert any(one.finish_reason == "length" for one in made)
            assert all(one.output_tokens == 2 for one in made if one.finish_reason == "length")

    asyncio.run(scenario())


def test_an_aborted_page_ends_and_the_next_is_read(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as (engine, _):
            # Random weights end when they like; this one must not.
            engine._model.generation_config.eos_token_id = None
            begun = asyncio.Event()
            page = request("long", noise(1), max_tokens=LONG)
            page = PageRequest("long", "text", page.pixels, parameters=page.parameters, begun=begun.set)
            task = asyncio.ensure_future(engine.recognize(page))
            await begun.wait()
            await engine.abort("long")
            with pytest.raises(Canceled):
                await task
            assert (await engine.raw(request("next", noise(2)))).output_tokens

    asyncio.run(scenario())


def test_a_canceled_page_frees_the_thread(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as (engine, _):
            engine._model.generation_config.eos_token_id = None
            task = asyncio.ensure_future(engine.recognize(request("long", noise(1), max_tokens=LONG)))
            await asyncio.sleep(0.2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with asyncio.timeout(10):
                await engine.raw(request("next", noise(2)))

    asyncio.run(scenario())


def test_a_name_on_the_hub_needs_a_commit() -> None:
    engine = TransformersEngine(Settings(model="someone/some-ocr", device="cpu:1"))
    with pytest.raises(EngineUnfit, match="model_revision"):
        asyncio.run(engine.start())
