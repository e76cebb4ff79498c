"""The parent's end of one engine process: start it, hand it pages, end it."""

import asyncio
import contextlib
import os
import sys
import tempfile
from typing import Any, BinaryIO, Self

import numpy as np
import orjson

from ocrfleet.errors import EngineCrashed
from ocrfleet.settings import child_environment
from worker.engines.base import Pixels
from worker.engines.frames import HEADER, pack

_END_TIMEOUT = 2.0


class Child:
    """One process, one page at a time. `EngineCrashed` when it ends without an answer."""

    def __init__(self, process: asyncio.subprocess.Process, pixels: BinaryIO) -> None:
        self._process = process
        self._pixels = pixels

    @classmethod
    async def start(cls, module: str, *arguments: str) -> Self:
        """Run `python -m module PID FD arguments…` and wait until it has loaded its model."""
        pixels = _anonymous_file()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            str(os.getpid()),
            str(pixels.fileno()),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(pixels.fileno(),),
            env=child_environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
        )
        child = cls(process, pixels)
        try:
            await child._reply()
        except BaseException:
            await child.end()
            raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        # The end of its output is seen before its exit code.
        pipe = self._process.stdout
        return self._process.returncode is None and pipe is not None and not pipe.at_eof()

    async def read(self, pixels: Pixels, request: dict[str, Any]) -> dict[str, Any]:
        """The child's answer for a page."""
        await asyncio.to_thread(self._write_pixels, pixels)
        height, width = pixels.shape[:2]
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101
        with contextlib.suppress(ConnectionError):  # a dead child has no reply either
            pipe.write(pack(request | {"height": height, "width": width}))
            await pipe.drain()
        answer = await self._reply()
        # Between pages no memory stays in use for the largest one.
        os.ftruncate(self._pixels.fileno(), 0)
        return answer

    def kill(self) -> None:
        """End it now; whoever awaits `read` gets `EngineCrashed`."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Close its input, and kill it if it is still there after a while."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_END_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        finally:
            self._pixels.close()

    def _write_pixels(self, pixels: Pixels) -> None:
        rest = np.ascontiguousarray(pixels).data.cast("B")
        offset = 0
        while offset < len(rest):
            offset += os.pwrite(self._pixels.fileno(), rest[offset:], offset)

    async def _reply(self) -> dict[str, Any]:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101
        try:
            header = await pipe.readexactly(HEADER.size)
            return orjson.loads(await pipe.readexactly(HEADER.unpack(header)[0]))
        except asyncio.IncompleteReadError as exc:
            code = await self._process.wait()
            raise EngineCrashed(f"the engine process {self.pid} ended with exit code {code}") from exc


def _anonymous_file() -> BinaryIO:
    """Memory to share with a child; unlike /dev/shm, which containers keep small, it has no limit of its own."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("page"), "r+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)
