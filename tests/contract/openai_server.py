"""An OpenAI-compatible server that misbehaves as it is told, on a thread and a loop of its own; and the engine to ask it."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from engine_support import page

from bench.fake_openai import MODEL, FakeOpenAi, completion
from ocrfleet.catalogue import Parameters
from ocrfleet.settings import Settings
from worker.engines.base import PageRequest
from worker.engines.openai import OpenAiEngine, Patience

RESET = -1
"""As a status: the connection is cut instead of an answer."""
SILENCE = -2
"""As a status: no answer comes at all."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; `body` is sent as it is, or as JSON."""

    status: int = 200
    body: bytes | dict[str, Any] = field(default_factory=lambda: completion("fine"))
    headers: str = ""


def error(status: int, message: str, headers: str = "") -> Reply:
    return Reply(status, {"error": {"message": message, "type": "error", "code": status}}, headers)


Script = Callable[[dict[str, Any], int], Reply]
"""From a request and its number (from 0) to its answer."""


class OddServer:
    """Answers completions by `script`; keeps what was asked."""

    def __init__(self, script: Script, models: Reply | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self.authorization: list[str] = []
        self.gone = threading.Event()
        """A client went away before it had its answer."""
        self.script = script
        self._connections: set[asyncio.Task[None]] = set()
        self.models = models or Reply(body={"data": [{"id": MODEL}]})

    async def start(self, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, limit=2**22)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        connections = list(self._connections)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        await asyncio.wait((task,))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answers(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                self.authorization.append(fields.get("authorization", ""))
                reply = self.models if head.startswith("GET") else self._next(orjson.loads(body))
                if reply.status == SILENCE:
                    if not await reader.read():
                        self.gone.set()
                    break
                if reply.status == RESET:
                    break
                said = reply.body if isinstance(reply.body, bytes) else orjson.dumps(reply.body)
                top = f"HTTP/1.1 {reply.status} X\r\nContent-Length: {len(said)}\r\n{reply.headers}\r\n"
                writer.write(top.encode() + said)

    def _next(self, asked: dict[str, Any]) -> Reply:
        self.asked.append(asked)
        return self.script(asked, len(self.asked) - 1)


@contextmanager
def serving(server: OddServer | FakeOpenAi, port: int = 0) -> Generator[str]:
    """Its base URL, while it runs on a thread of its own."""
    ready: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        end = asyncio.Event()
        ready.set_result((await server.start(port), asyncio.get_running_loop(), end))
        await end.wait()
        await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    bound, loop, end = ready.result()
    try:
        yield f"http://127.0.0.1:{bound}/v1"
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()


HASTE = Patience(page=0.6, away=0.2, start=0.5, backoff=0.02, backoff_cap=0.1)
TEXT = PageRequest("page-1", "text", page("Harbour"), parameters=Parameters(max_tokens=64))


@asynccontextmanager
async def running(url: str, patience: Patience = HASTE, **given: Any) -> AsyncGenerator[OpenAiEngine]:
    engine = OpenAiEngine(Settings(openai_url=url, **given), patience)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.stop()
