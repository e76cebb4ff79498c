"""The null engine: a real engine that reads nothing, for measurements and for tests of the fleet around it.

Its text is the SHA-256 of the pixels, so that a test can prove that no page got another's result.
"""

import asyncio
import hashlib
import os
import signal

import numpy as np

from ocrfleet.settings import Settings
from worker.engines.base import EngineInfo, PageRequest, PageResult, Region


class NullEngine:
    """Answers after `null_latency` seconds."""

    def __init__(self, settings: Settings) -> None:
        self.reads_pixels = settings.null_reads_pixels
        self._latency = settings.null_latency
        self._in_flight = settings.null_in_flight
        self._poison = settings.null_poison

    async def start(self) -> EngineInfo:
        return EngineInfo("null", "null", "1", ("text", "spotting", "parse"), self._in_flight)

    def wanted(self) -> int:
        return self._in_flight

    async def recognize(self, request: PageRequest) -> PageResult:
        request.begun()
        if self._latency:
            await asyncio.sleep(self._latency)
        if request.pixels is None:
            return PageResult(text=request.request_id)
        # Not on the loop: pages would pile up decoded behind the hashing of megabytes.
        text = (
            await asyncio.to_thread(hashlib.sha256, np.ascontiguousarray(request.pixels).data)
        ).hexdigest()
        if text == self._poison:
            os.kill(os.getpid(), signal.SIGKILL)
        height, width = request.pixels.shape[:2]
        regions = [Region(text, (0, 0, width, height), 1.0)] if request.task == "spotting" else None
        markdown = text if request.task == "parse" else None
        return PageResult(text=text, markdown=markdown, regions=regions)

    async def abort(self, request_id: str) -> None:
        pass

    async def healthy(self) -> bool:
        return True

    async def stop(self) -> None:
        pass
