"""The two ways of carrying steps out: on the caller's thread, and on the caller's event loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

from ocrfleet.client.calls import Async, Sync
from ocrfleet.client.errors import UnreachableError
from ocrfleet.client.steps import Close, Do, Emit, Pause, Read, Send, Step, Steps, Stream, Together, go_on

T = TypeVar("T")
_ADDRESSES = ("http://", "https://")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass
class _Underway(Generic[T]):
    """Steps that are being carried out, and the streams that they have open."""

    steps: Generator[Step | Emit[Any], Any, T]
    streams: dict[httpx.Response, Any] = field(default_factory=dict[httpx.Response, Any])


class SyncTransport(Sync):
    """Over httpx.Client, which threads may share."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._elsewhere: dict[bool, httpx.Client] = {}
        """For addresses that are not below the API's, by whether a proxy may stand before them."""
        self._making = threading.Lock()
        self._closed = threading.Event()

    def close(self) -> None:
        """Give the connections back; a call that waits for its next try makes it at once, and fails."""
        self._closed.set()
        for http in (self._http, *self._elsewhere.values()):
            http.close()

    def carry_out(self, steps: Steps[T]) -> T:
        underway = _Underway(steps)
        try:
            found = self._next(underway)
        finally:
            self._release(underway)
        assert not isinstance(found, Emit)  # noqa: S101 (a call that answers once emits nothing)
        return found

    def go_through(self, steps: Stream[T]) -> Iterator[T]:
        underway = _Underway(steps)
        try:
            while isinstance(found := self._next(underway), Emit):
                yield found.item
        finally:
            self._release(underway)

    def _next(self, underway: _Underway[T]) -> T | Emit[Any]:
        """Carry out steps up to the next item, or to what they return."""
        came: object = None
        while True:
            try:
                step = go_on(underway.steps, came)
            except StopIteration as end:
                return end.value
            if isinstance(step, Emit):
                return step
            try:
                came = self._do(step, underway.streams)
            except httpx.TransportError as exc:
                came = exc

    def _do(self, step: Step, streams: dict[httpx.Response, Iterator[bytes]]) -> object:
        match step:
            case Send():
                return self._send(step, streams)
            case Read():
                return next(streams[step.response], None)
            case Close():
                streams.pop(step.response, None)
                step.response.close()
                return None
            case Pause():
                return self._closed.wait(step.seconds)
            case Do():
                return step.work()
            case Together():
                with ThreadPoolExecutor(step.limit) as pool:
                    return list(pool.map(self.carry_out, step.calls))

    def _send(self, send: Send, streams: dict[httpx.Response, Iterator[bytes]]) -> httpx.Response:
        _check_open(self._closed)
        http = self._way(send)
        response = http.send(_request(http, send), stream=send.stream)
        if send.stream and response.is_success:
            streams[response] = response.iter_bytes()
        elif send.stream:
            response.read()
        return response

    def _way(self, send: Send) -> httpx.Client:
        if not send.path.startswith(_ADDRESSES):
            return self._http
        proxy = _may_use_proxy(send.path)
        with self._making:
            if proxy not in self._elsewhere:
                self._elsewhere[proxy] = httpx.Client(timeout=self._http.timeout, trust_env=proxy)
            return self._elsewhere[proxy]

    def _release(self, underway: _Underway[Any]) -> None:
        underway.steps.close()
        for response in underway.streams:
            response.close()


class AsyncTransport(Async):
    """Over httpx.AsyncClient, which belongs to one event loop."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._elsewhere: dict[bool, httpx.AsyncClient] = {}
        self._closed = asyncio.Event()

    async def close(self) -> None:
        """Give the connections back; a call that waits for its next try makes it at once, and fails."""
        self._closed.set()
        for http in (self._http, *self._elsewhere.values()):
            await http.aclose()

    async def carry_out(self, steps: Steps[T]) -> T:
        underway = _Underway(steps)
        try:
            found = await self._next(underway)
        finally:
            await self._release(underway)
        assert not isinstance(found, Emit)  # noqa: S101 (a call that answers once emits nothing)
        return found

    async def go_through(self, steps: Stream[T]) -> AsyncIterator[T]:
        underway = _Underway(steps)
        try:
            while isinstance(found := await self._next(underway), Emit):
                yield found.item
        finally:
            await self._release(underway)

    async def _next(self, underway: _Underway[T]) -> T | Emit[Any]:
        """Carry out steps up to the next item, or to what they return."""
        came: object = None
        while True:
            try:
                step = go_on(underway.steps, came)
            except StopIteration as end:
                return end.value
            if isinstance(step, Emit):
                return step
            try:
                came = await self._do(step, underway.streams)
            except httpx.TransportError as exc:
                came = exc

    async def _do(self, step: Step, streams: dict[httpx.Response, AsyncIterator[bytes]]) -> object:
        match step:
            case Send():
                return await self._send(step, streams)
            case Read():
                return await anext(streams[step.response], None)
            case Close():
                streams.pop(step.response, None)
                await step.response.aclose()
                return None
            case Pause():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._closed.wait(), step.seconds)
                return None
            case Do():
                return await asyncio.to_thread(step.work)
            case Together():
                return await self._together(step)

    async def _send(self, send: Send, streams: dict[httpx.Response, AsyncIterator[bytes]]) -> httpx.Response:
        _check_open(self._closed)
        http = self._way(send)
        response = await http.send(_request(http, send), stream=send.stream)
        if send.stream and response.is_success:
            streams[response] = response.aiter_bytes()
        elif send.stream:
            await response.aread()
        return response

    async def _together(self, step: Together) -> list[Any]:
        room = asyncio.Semaphore(step.limit)

        async def one(steps: Steps[Any]) -> object:
            async with room:
                return await self.carry_out(steps)

        tasks = [asyncio.create_task(one(steps)) for steps in step.calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    def _way(self, send: Send) -> httpx.AsyncClient:
        if not send.path.startswith(_ADDRESSES):
            return self._http
        proxy = _may_use_proxy(send.path)
        if proxy not in self._elsewhere:
            self._elsewhere[proxy] = httpx.AsyncClient(timeout=self._http.timeout, trust_env=proxy)
        return self._elsewhere[proxy]

    async def _release(self, underway: _Underway[Any]) -> None:
        underway.steps.close()
        for response in underway.streams:
            await response.aclose()


def _check_open(closed: threading.Event | asyncio.Event) -> None:
    if closed.is_set():
        raise UnreachableError("the client has been closed")


def options(url: str, key: str, timeout: float) -> dict[str, Any]:
    """What both of httpx's clients are made with. `timeout`: seconds of silence."""
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"},
        "timeout": httpx.Timeout(timeout, connect=5.0),
        "trust_env": _may_use_proxy(url),
    }


def _may_use_proxy(url: str) -> bool:
    """A proxy for the internet does not reach a server of this machine."""
    return httpx.URL(url).host not in _LOOPBACK


def _request(http: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
    return http.build_request(
        send.method,
        send.path,
        params=send.params,
        headers=send.headers,
        content=send.content,
        data=send.form,
        files=send.files,
        timeout=http.timeout if send.timeout is None else send.timeout,
    )
