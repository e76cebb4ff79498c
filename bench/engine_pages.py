"""Drives the engine `rapidocr` without any service, over files of a folder."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ocrfleet.documents import Limits, MediaType, Pixels, guess
from ocrfleet.images import decode_image
from ocrfleet.sandbox import Sandbox
from ocrfleet.settings import Settings
from worker.engines.base import PageRequest, PageResult
from worker.engines.rapidocr import RapidOcrEngine

TYPES = frozenset({MediaType.JPEG, MediaType.PNG, MediaType.PDF})


@dataclass(frozen=True, slots=True)
class EngineRun:
    """Results by file name, and the seconds they took from first page to last, without the engine's start."""

    results: Mapping[str, PageResult]
    seconds: float


def page_files(folder: Path) -> list[Path]:
    """Images and PDFs of a folder, by name."""
    return sorted(path for path in folder.iterdir() if guess(path.name) in TYPES)


def recognise_files(paths: list[Path], processes: int) -> EngineRun:
    """The first page of every file, decoded and read as the fleet does, as many at once as the engine asks for."""
    limits = Limits.of(Settings())
    with Sandbox(1, limits) as sandbox:

        def decode(path: Path) -> Pixels:
            if guess(path.name) is MediaType.PDF:
                return sandbox.render(path, 1).pixels
            return decode_image(path.read_bytes(), 0, limits).pixels

        return asyncio.run(_recognise(paths, decode, processes))


async def _recognise(paths: list[Path], decode: Callable[[Path], Pixels], processes: int) -> EngineRun:
    engine = RapidOcrEngine(Settings(device=f"cpu:{processes}"))
    info = await engine.start()
    results: dict[str, PageResult] = {}
    room = asyncio.Semaphore(info.in_flight)

    async def one(path: Path) -> None:
        async with room:
            pixels = await asyncio.to_thread(decode, path)
            results[path.name] = await engine.recognize(PageRequest(path.name, "text", pixels))

    try:
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for path in paths:
                group.create_task(one(path))
        return EngineRun(results, time.perf_counter() - begin)
    finally:
        await engine.stop()
