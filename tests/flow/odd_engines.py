"""Engines that misbehave, each a real one behind the seam of worker/engines/base.py."""

import asyncio
from collections.abc import Callable

from ocrfleet.errors import BY_CODE, EngineCrashed, EngineOom
from ocrfleet.states import Lane
from worker.engines.base import EngineInfo, PageRequest, PageResult


class PlainEngine:
    """Reads nothing and answers with the request's id; the others are this one with a fault."""

    reads_pixels = False

    def __init__(self, in_flight: int = 8) -> None:
        self.in_flight = in_flight
        self.begun: list[PageRequest] = []
        self.aborted: list[str] = []
        self.is_healthy = True

    async def start(self) -> EngineInfo:
        self.loop = asyncio.get_running_loop()
        return EngineInfo("odd", "odd", "1", ("text",), self.in_flight)

    def wanted(self) -> int:
        return self.in_flight

    async def recognize(self, request: PageRequest) -> PageResult:
        self.begun.append(request)
        request.begun()
        return await self.read(request)

    async def read(self, request: PageRequest) -> PageResult:
        return PageResult(request.request_id)

    async def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    async def healthy(self) -> bool:
        return self.is_healthy

    async def stop(self) -> None:
        pass


class FaultyEngine(PlainEngine):
    """Fails the pages whose options name a `fault`: the code of an error, or `bug` for an exception of its own."""

    async def read(self, request: PageRequest) -> PageResult:
        fault = request.options.get("fault")
        if fault == "bug":
            raise RuntimeError("the engine has a bug")
        if fault:
            raise BY_CODE[fault](f"page {request.request_id} has {fault}")
        return PageResult(request.request_id)


class SeeingEngine(FaultyEngine):
    """Has its pages loaded."""

    reads_pixels = True


class OutOfMemoryEngine(PlainEngine):
    async def read(self, request: PageRequest) -> PageResult:
        raise EngineOom(f"{request.request_id} needs 900 GB, there are 139")


class CrashingEngine(PlainEngine):
    """Its process has ended and does not come back."""

    async def read(self, request: PageRequest) -> PageResult:
        self.is_healthy = False
        raise EngineCrashed(f"the engine ended under {request.request_id}")


class DeadlyPageEngine(PlainEngine):
    """A page with the option `deadly` ends the process that holds it and no other page; the next one stands ready."""

    async def read(self, request: PageRequest) -> PageResult:
        if request.options.get("deadly"):
            error = EngineCrashed(f"the process ended under {request.request_id}")
            error.alone = True
            raise error
        return PageResult(request.request_id)


class SilentEngine(PlainEngine):
    """Finds no text and does not call the page blank."""

    async def read(self, request: PageRequest) -> PageResult:
        return PageResult("", warnings=("blank_page",) if request.options.get("blank") else ())


class SlowEngine(PlainEngine):
    """Holds its pages until `release`."""

    def __init__(self, in_flight: int = 8) -> None:
        super().__init__(in_flight)
        self.now = 0
        self.together: dict[str, int] = {}
        """Of each request, how many ran when it began, itself included."""

    async def start(self) -> EngineInfo:
        self._open = asyncio.Event()
        return await super().start()

    async def read(self, request: PageRequest) -> PageResult:
        self.now += 1
        self.together[request.request_id] = self.now
        try:
            await self._open.wait()
        finally:
            self.now -= 1
        return PageResult(request.request_id)

    def release(self) -> None:
        self.loop.call_soon_threadsafe(self._open.set)

    def hold(self) -> None:
        """From now on again."""
        self.loop.call_soon_threadsafe(self._open.clear)

    def lanes(self) -> list[Lane]:
        return [request.lane for request in self.begun]


class BrokenEngine(SlowEngine):
    """Crashes under every page while it is `broken`, and lives on."""

    broken = True

    async def read(self, request: PageRequest) -> PageResult:
        if self.broken:
            await asyncio.sleep(0.002)
            raise EngineCrashed(f"the engine ended under {request.request_id}")
        return await super().read(request)


class PoisonedTextEngine(PlainEngine):
    """Answers and fails with what no record takes."""

    async def read(self, request: PageRequest) -> PageResult:
        if request.options.get("fault"):
            raise RuntimeError("half a character \udc80 and \x00")
        return PageResult("a\x00b\udc80c")


class RefusedEngine(PlainEngine):
    """Its answer for a page with the option `refused` has what the given function makes, past our own checks."""

    def __init__(self, refused: Callable[[], PageResult]) -> None:
        super().__init__()
        self._refused = refused

    async def read(self, request: PageRequest) -> PageResult:
        return self._refused() if request.options.get("refused") else PageResult(request.request_id)
