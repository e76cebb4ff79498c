"""Pages with text on them, engines that run for as long as a test, and their processes."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import numpy as np
import psutil
from PIL import Image, ImageDraw, ImageFont

from bench.fake_openai import FakeOpenAi
from ocrfleet.settings import Settings
from ocrfleet.states import Lane
from worker.engines import load
from worker.engines.base import Engine, EngineInfo, PageRequest, PageResult, Pixels


def page(*lines: str, width: int = 480) -> Pixels:
    """Black on white, one line below the other."""
    image = Image.new("RGB", (width, 40 + 60 * len(lines)), "white")
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        draw.text((20, 20 + 60 * i), line, "black", ImageFont.load_default(36))
    return np.asarray(image)


def letters(text: str) -> str:
    return "".join(text.split())


@asynccontextmanager
async def running(
    name: str, device: str = "cpu:1", null_latency: float = 0.0, process_pages: int = 1000
) -> AsyncGenerator[tuple[Engine, EngineInfo]]:
    fake = FakeOpenAi(null_latency, reads=True)
    port = await fake.start()
    engine = load(
        Settings(
            engine=name,
            device=device,
            null_latency=null_latency,
            engine_process_pages=process_pages,
            openai_url=f"http://127.0.0.1:{port}/v1",
        )
    )
    async with asyncio.timeout(120):
        info = await engine.start()
        try:
            yield engine, info
        finally:
            await engine.stop()
            await fake.stop()


def read(engine: Engine, number: int, text: str, lane: Lane = Lane.BULK) -> asyncio.Task[PageResult]:
    return asyncio.ensure_future(engine.recognize(PageRequest(f"page-{number}", "text", page(text), lane)))


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def frozen(pid: int) -> None:
    """From now on nothing that the process is given gets done."""
    os.kill(pid, signal.SIGSTOP)


def until_gone(pid: int) -> None:
    while psutil.pid_exists(pid):
        threading.Event().wait(0.02)
