"""The production engine: one vLLM on one device, in which pages of any document, job and tenant are batched together.

vLLM and torch are imported when it starts. Every page is a request of its own.
"""

import asyncio
import importlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog

from ocrfleet import catalogue
from ocrfleet.errors import Canceled, EngineCrashed, EngineOom, FleetError, Internal
from ocrfleet.settings import Settings, set_environment
from ocrfleet.states import Lane
from worker.engines import device, self_test, vllm_versions
from worker.engines.base import EngineInfo, PageRequest, PageResult, Pixels
from worker.engines.checkpoints import revision_of
from worker.engines.vllm_feed import Load, ahead, wanted
from worker.engines.vllm_pages import prepare
from worker.engines.vllm_seam import Core
from worker.outputs import language
from worker.outputs.interpret import interpret
from worker.outputs.tails import most_repeats

PRIORITIES = {Lane.INTERACTIVE: 0, Lane.BULK: 1}
"""The lower goes first."""
_POLL = 0.01
_TOGETHER_TIMEOUT = 60.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class VllmEngine:
    """`settings.model` names a folder, or a model on the hub together with the commit to take."""

    reads_pixels = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._core: Core | None = None
        self._works: dict[str, asyncio.Task[PageResult]] = {}
        self._aborted: set[str] = set()
        self._died_alone: bool | None = None
        self._last_step = (0, 0.0)

    async def start(self) -> EngineInfo:
        settings = self._settings
        revision = await asyncio.to_thread(revision_of, settings)
        if not settings.allow_unproven_versions:
            vllm_versions.check()
        set_environment(VLLM_WORKER_MULTIPROC_METHOD="spawn", VLLM_NO_USAGE_STATS="1")
        device.mark()
        await asyncio.to_thread(device.end_orphans)
        await asyncio.to_thread(language.identifier)
        self._core = await asyncio.to_thread(_build, settings)
        # Random weights have nothing to say of the page.
        if settings.self_test and settings.load_format != "dummy":
            try:
                await self_test.prove(self)
            except BaseException:
                await self.stop()
                raise
            _log.info("self_test_passed", exact=self.exact)
        in_flight = settings.max_sequences + ahead(settings.max_sequences)
        return EngineInfo("vllm", settings.model, revision, tuple(catalogue.TASKS), in_flight)

    def wanted(self) -> int:
        load = self._core.figures.load if self._core is not None else Load()
        return wanted(load, self._settings.max_sequences)

    async def recognize(self, request: PageRequest) -> PageResult:
        core = self._running()
        if not self._works:
            self._last_step = (core.figures.steps, time.monotonic())
        work = asyncio.ensure_future(self._read(core, request))
        self._works[request.request_id] = work
        try:
            return await work
        except asyncio.CancelledError:
            if request.request_id in self._aborted:
                raise Canceled("the page was aborted") from None
            raise
        finally:
            self._aborted.discard(request.request_id)
            del self._works[request.request_id]

    async def abort(self, request_id: str) -> None:
        if (work := self._works.get(request_id)) is not None and not work.done():
            self._aborted.add(request_id)
            # Whoever waits for vLLM's answer takes the request back when it is canceled.
            work.cancel()

    async def healthy(self) -> bool:
        return self._core is not None and not self._core.dead and not self._stalls(self._core)

    async def stop(self) -> None:
        core, self._core = self._core, None
        for work in list(self._works.values()):
            work.cancel()
        if core is not None:
            await asyncio.to_thread(core.shutdown)

    @property
    def exact(self) -> bool:
        """For the self-test."""
        return self._running().exact

    async def first_tokens(self, page: Pixels, count: int, name: str = "alone") -> Sequence[int]:
        """For the self-test."""
        core = self._running()
        prompt = core.prompt(catalogue.TASKS["text"].prompt_zh)
        image = await asyncio.to_thread(prepare, page, core.geometry, None)
        given = replace(catalogue.TASKS["text"].parameters, max_tokens=count)
        asked = core.sampling(given, most_repeats=None, schema=None)
        found: list[int] = []
        try:
            async for output in core.generate(f"self-test-{name}", prompt, image, asked, 0):
                found += output.outputs[0].token_ids
        except Exception as exc:
            raise core.translated(exc) from exc
        return found

    async def first_tokens_together(self, pages: Sequence[Pixels], count: int) -> Sequence[Sequence[int]]:
        """For the self-test: they are held back until all of them are there."""
        core = self._running()
        await core.hold()
        answers = [
            asyncio.ensure_future(self.first_tokens(page, count, f"together-{number}"))
            for number, page in enumerate(pages)
        ]
        end = time.monotonic() + _TOGETHER_TIMEOUT
        while core.unfinished < len(pages) and time.monotonic() < end:
            if any(answer.done() for answer in answers):
                break
            await asyncio.sleep(_POLL)
        await core.release()
        return await asyncio.gather(*answers)

    async def _read(self, core: Core, request: PageRequest) -> PageResult:
        started = time.monotonic()
        if request.pixels is None:
            raise Internal("the engine vllm needs pixels")
        given = request.parameters
        text = catalogue.build_prompt(request.task, request.prompt, request.options)
        outputs: list[Any] = []
        try:
            prompt = core.prompt(text)
            schema = catalogue.schema_of(request.task, request.options)
            asked = core.sampling(given, most_repeats=most_repeats(request.task), schema=schema)
            image = await asyncio.to_thread(prepare, request.pixels, core.geometry, given.max_pixels)
            priority = PRIORITIES[request.lane]
            async for output in core.generate(request.request_id, prompt, image, asked, priority):
                if not outputs:
                    # The first token: from here on it is the page itself that takes its time.
                    request.begun()
                outputs.append(output)
        except FleetError:
            raise
        except MemoryError as exc:
            raise EngineOom("there was no memory for the page") from exc
        except Exception as exc:
            raise self._translated(core, exc) from exc
        result = interpret(request, core.generated(outputs))
        return replace(result, timings_ms=_timings(started, outputs[-1].metrics))

    def _translated(self, core: Core, exc: Exception) -> FleetError:
        error = core.translated(exc)
        if isinstance(error, EngineCrashed):
            if self._died_alone is None:
                # All of them are still here when the first one learns of it.
                self._died_alone = len(self._works) == 1
            error.alone = self._died_alone
        return error

    def _running(self) -> Core:
        if self._core is None or self._core.dead:
            raise EngineCrashed("the engine does not run")
        return self._core

    def _stalls(self, core: Core) -> bool:
        """Whether it has pages, and has made no step for longer than a whole page may take: it never will."""
        steps, now = core.figures.steps, time.monotonic()
        if steps != self._last_step[0]:
            self._last_step = (steps, now)
        return bool(self._works) and now - self._last_step[1] > self._settings.inference_timeout


def _build(settings: Settings) -> Core:
    try:
        module = importlib.import_module("worker.engines.vllm_core")
        return module.Core(settings)
    except FleetError:
        raise
    except Exception as exc:
        raise EngineCrashed(f"vLLM did not start: {type(exc).__name__}: {exc}") from exc


def _timings(started: float, metrics: Any) -> dict[str, int]:  # noqa: ANN401 (vLLM's)
    """`preprocess` until the request is in the engine's queue, `engine_queue` until it is scheduled. One clock."""
    if metrics is None:
        return {}
    queued, scheduled = metrics.queued_ts, metrics.scheduled_ts
    return {
        "preprocess": round(1000 * (queued - started)),
        "engine_queue": round(1000 * (scheduled - queued)),
    }
