"""The CPU engine: RapidOCR on onnxruntime with the models in its wheel, one process per core.

Pages wait here in a queue, interactive ones first, and cost nothing but their pixels until a process is free.
"""

import asyncio
import contextlib
import importlib.metadata
import itertools
import re
from typing import Any

import structlog

from ocrfleet.errors import Canceled, EmptyOutput, EngineCrashed, EngineOom, FleetError, Internal, UnknownTask
from ocrfleet.settings import Settings
from ocrfleet.states import Lane
from worker.engines.base import EngineInfo, PageRequest, PageResult, Pixels, Region
from worker.engines.child import Child
from worker.gates import MAX_OVERTAKEN

TASKS = ("text", "spotting", "parse")
MODEL = "PP-OCRv6-small"
_MODULE = "worker.engines.rapidocr_process"
_START_DELAYS = (0.0, 1.0, 4.0)
"""Seconds before each attempt to start a process; when all fail the engine is not healthy."""
_AHEAD = 2
"""Pages wanted per process: one that it reads and one that is decoded meanwhile."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class _Work:
    """A page on its way; `done` is answered once, by its process, by `abort` or by cancellation."""

    def __init__(self, request: PageRequest, pixels: Pixels) -> None:
        self.request = request
        self.pixels = pixels
        self.done: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.child: Child | None = None

    def fail(self, error: FleetError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def stop(self) -> None:
        # Nothing else ends a page within seconds: the models' calls into C cannot be interrupted.
        if self.child is not None:
            self.child.kill()


class RapidOcrEngine:
    """`settings.device` `cpu:N` gives N processes."""

    reads_pixels = True

    def __init__(self, settings: Settings) -> None:
        match = re.fullmatch(r"cpu:([1-9]\d*)", settings.device)
        if match is None:
            msg = f"the engine rapidocr runs on device cpu:N, not on {settings.device!r}"
            raise ValueError(msg)
        self._processes = int(match[1])
        self._max_pages = settings.engine_process_pages
        self._order = itertools.count()
        self._works: dict[str, _Work] = {}
        self._slots: list[asyncio.Task[None]] = []
        self._failure: str | None = "it was not started"

    async def start(self) -> EngineInfo:
        self._queue: asyncio.PriorityQueue[tuple[int, int, _Work | None]] = asyncio.PriorityQueue()
        starts = (self._start_child() for _ in range(self._processes))
        started = await asyncio.gather(*starts, return_exceptions=True)
        children = [child for child in started if isinstance(child, Child)]
        if len(children) < len(started):
            await asyncio.gather(*(child.end() for child in children))
            raise next(error for error in started if isinstance(error, BaseException))
        self._failure = None
        self._slots = [asyncio.ensure_future(self._serve(child)) for child in children]
        revision = importlib.metadata.version("rapidocr")
        return EngineInfo("rapidocr", MODEL, revision, TASKS, _AHEAD * self._processes)

    def wanted(self) -> int:
        return _AHEAD * self._processes

    async def recognize(self, request: PageRequest) -> PageResult:
        if request.task not in TASKS:
            raise UnknownTask(f"the engine rapidocr cannot do {request.task!r}; it can: {', '.join(TASKS)}")
        if request.pixels is None:
            raise Internal("the engine rapidocr needs pixels")
        if self._failure is not None:
            raise EngineCrashed(f"the engine takes no pages: {self._failure}")
        work = self._works[request.request_id] = _Work(request, request.pixels)
        # An interactive page passes those that came shortly before it, not those that have waited for long.
        turn = next(self._order) - (MAX_OVERTAKEN if request.lane is Lane.INTERACTIVE else 0)
        self._queue.put_nowait((turn, next(self._order), work))
        try:
            return _result(await work.done)
        except asyncio.CancelledError:
            work.stop()
            raise
        finally:
            del self._works[request.request_id]

    async def abort(self, request_id: str) -> None:
        if (work := self._works.get(request_id)) is not None and not work.done.done():
            work.fail(Canceled("the page was aborted"))
            work.stop()

    async def healthy(self) -> bool:
        return self._failure is None

    async def stop(self) -> None:
        self._failure = "it was stopped"
        for work in list(self._works.values()):
            work.fail(EngineCrashed(self._failure))
            work.stop()
        for _ in self._slots:
            self._queue.put_nowait((-MAX_OVERTAKEN - 1, next(self._order), None))
        await asyncio.gather(*self._slots)
        self._slots = []

    async def _serve(self, child: Child | None) -> None:
        """One slot: hands pages to its process and replaces it when it ended, was killed or grew old."""
        while (work := (await self._queue.get())[2]) is not None:
            if work.done.done():
                continue
            if child is None or not child.alive:
                child = await self._replace(child)
            if child is None:
                work.fail(EngineCrashed(str(self._failure)))
                continue
            if not await self._hand(work, child):
                child = await self._replace(child)
        if child is not None:
            await child.end()

    async def _hand(self, work: _Work, child: Child) -> bool:
        """Whether the process may take another page."""
        if work.done.done():
            return True
        work.child = child
        work.request.begun()
        try:
            answer = await child.read(work.pixels, {"task": work.request.task})
        except EngineCrashed as exc:
            exc.alone = True
            work.fail(exc)
            return False
        finally:
            work.child = None
        if not work.done.done():
            work.done.set_result(answer)
            return not answer["last"]
        # It was aborted as the answer came, and its process was killed.
        return False

    async def _start_child(self) -> Child:
        return await Child.start(_MODULE, str(self._max_pages))

    async def _replace(self, old: Child | None) -> Child | None:
        if old is not None:
            await old.end()
        for delay in _START_DELAYS:
            await asyncio.sleep(delay)
            if self._failure is not None:
                return None
            with contextlib.suppress(EngineCrashed, OSError):
                child = await self._start_child()
                _log.info("engine_process_started", pid=child.pid)
                return child
        self._failure = f"no engine process started in {len(_START_DELAYS)} attempts"
        return None


def _result(answer: dict[str, Any]) -> PageResult:
    """What `rapidocr_process.read_page` wrote, or the error in its place."""
    if "error" in answer:
        raise (EngineOom if answer["error"] == "engine_oom" else Internal)(answer["detail"])
    if "empty" in answer:
        raise EmptyOutput("no text was found on a page that is not blank")
    return PageResult(
        text=answer["text"],
        markdown=answer["markdown"],
        regions=[Region(text, tuple(box), score) for text, box, score in answer["regions"]],
        language=answer["language"],
        warnings=tuple(answer["warnings"]),
        rotation=answer["rotation"],
    )
