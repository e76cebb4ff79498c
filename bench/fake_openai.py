"""An OpenAI-compatible server without a model: a page takes a fixed time, and only so many run at once.

`python -m bench.fake_openai [--port N] [--latency SECONDS] [--at-once N]` prints its port. A request that comes while all
places are taken waits for one, as in `vllm serve`. `GET /stats` tells how long the places were taken.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import time
from typing import Any

import orjson

from ocrfleet import catalogue

MODEL = "fake-ocr"
_HEAD = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_BUFFER = 4 * 1024 * 1024


class FakeOpenAi:
    """With `reads` a page's text tells the image that came, as proof that it was the right one; else all are equal."""

    def __init__(self, latency: float = 0.0, at_once: int = 64, *, reads: bool = False) -> None:
        self.running = 0
        self.peak = 0
        self.served = 0
        self.abandoned = 0
        """Requests whose client went away before the answer."""
        self._latency = latency
        self._reads = reads
        self._places = asyncio.Semaphore(at_once)
        self._bytes = 0
        self._place_seconds = 0.0
        self._changed = time.monotonic()
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> int:
        """Returns the port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, limit=_BUFFER)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for writer in list(self._connections):
            writer.close()
        await self._server.wait_closed()

    def stats(self) -> dict[str, float]:
        """`place_seconds` grows by the number of requests that run, every second of `clock`."""
        self._run(0)
        return {
            "running": self.running,
            "peak": self.peak,
            "served": self.served,
            "abandoned": self.abandoned,
            "bytes": self._bytes,
            "place_seconds": self._place_seconds,
            "clock": self._changed,
        }

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
                    body = await reader.readexactly(int(length or 0))
                    answer = await self._answer(head.split(b" ", 2)[1].decode(), body, reader)
                    if answer is None:
                        return
                    status, members = answer
                    said = orjson.dumps(members)
                    writer.write(_HEAD % (status, len(said)) + said)
        finally:
            self._connections.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(
        self, path: str, body: bytes, reader: asyncio.StreamReader
    ) -> tuple[int, dict[str, Any]] | None:
        """Status and body; None when the client has gone."""
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
        if path == "/stats":
            return 200, dict(self.stats())
        if path != "/v1/chat/completions":
            return 404, {"error": {"message": f"there is no {path}"}}
        self._bytes += len(body)
        if not await self._stayed(reader):
            self.abandoned += 1
            return None
        self.served += 1
        return 200, completion(_seen(body) if self._reads else "a page of text")

    async def _stayed(self, reader: asyncio.StreamReader) -> bool:
        """The page's time; False as soon as the client goes away."""
        gone = asyncio.ensure_future(reader.read(1))
        work = asyncio.ensure_future(self._work())
        try:
            await asyncio.wait((gone, work), return_when=asyncio.FIRST_COMPLETED)
            return work.done()
        finally:
            for task in (gone, work):
                task.cancel()
            await asyncio.gather(gone, work, return_exceptions=True)

    async def _work(self) -> None:
        async with self._places:
            self._run(1)
            try:
                await asyncio.sleep(self._latency)
            finally:
                self._run(-1)

    def _run(self, change: int) -> None:
        now = time.monotonic()
        self._place_seconds += self.running * (now - self._changed)
        self._changed = now
        self.running += change
        self.peak = max(self.peak, self.running)


def completion(text: str) -> dict[str, Any]:
    """The answer of a server that read `text`, with a token for each word."""
    words = [word + " " for word in text.split(" ")]
    words[-1] = words[-1][:-1]
    tokens = [{"token": word, "logprob": -0.1, "bytes": list(word.encode())} for word in words]
    return {
        "object": "chat.completion",
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
                "logprobs": {"content": tokens},
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": len(words)},
    }


def _seen(body: bytes) -> str:
    """The SHA-256 of the image that came; with a box around the page where boxes are asked for."""
    content = orjson.loads(body)["messages"][-1]["content"]
    image = base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])
    box = "(0,0),(1000,1000)" if content[1]["text"] == catalogue.TASKS["spotting"].prompt_zh else ""
    return hashlib.sha256(image).hexdigest() + box


async def _serve(port: int, latency: float, at_once: int) -> None:
    print(await FakeOpenAi(latency, at_once).start(port), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--at-once", type=int, default=64)
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(args.port, args.latency, args.at_once))


if __name__ == "__main__":
    main()
