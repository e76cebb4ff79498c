"""Any OpenAI-compatible server, such as `vllm serve`, as an engine: pages travel as JPEG, answers come back as text.

A server that is busy or away costs no page anything: a page is asked for again for a while, then it goes back unspent. A
server that stays away makes the engine unhealthy: the worker leaves, others get its pages, and `start` in the next
process waits until the server is back.
"""

import asyncio
import random
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
import structlog

from ocrfleet.catalogue import TASKS
from ocrfleet.errors import (
    Canceled,
    EngineCrashed,
    FleetError,
    Internal,
    ModelLoading,
    ValidationFailed,
)
from ocrfleet.settings import Settings
from worker.engines import openai_messages as messages
from worker.engines.base import UNKNOWN, EngineInfo, PageRequest, PageResult
from worker.engines.openai_refusals import Again, Unknown, refusal
from worker.engines.window import Window
from worker.outputs import language
from worker.outputs.generated import Generated
from worker.outputs.interpret import interpret

log = structlog.get_logger()
T = TypeVar("T")

_ENCODERS = 2
"""Threads that make requests of pages."""
_AHEAD = 4
"""Pages taken beyond those that are asked for: they are being encoded meanwhile."""
_CONNECT_TIMEOUT, _PROBE_TIMEOUT = 5.0, 3.0
_BLAMED_AFTER = 3
"""So many broken answers, and it is asked whether the server or the page is at fault."""
_OURS = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
"""Statuses at start that waiting does not change: the URL or the key is wrong."""
_IDLE = 3.0
"""Seconds that an unused connection is kept; servers close theirs after 5."""
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 25_000}


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds."""

    page: float = 30.0
    """A page is asked for again so long, while the server is busy or away."""
    away: float = 60.0
    """A server that gave no answer for so long is gone."""
    start: float = 600.0
    """A server may be loading its model for so long."""
    backoff: float = 0.5
    """At most, before the second time; doubles each time."""
    backoff_cap: float = 8.0


class OpenAiEngine:
    """`settings.openai_url` is the server's root with its `/v1`."""

    reads_pixels = True

    def __init__(self, settings: Settings, patience: Patience | None = None) -> None:
        self._settings = settings
        self._patience = patience or Patience()
        self._in_flight = settings.openai_in_flight
        self._window = Window(self._in_flight)
        # One connection each: a client's pool asks the kernel about all that are idle, at every request.
        self._clients: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        self._tasks: dict[str, asyncio.Task[PageResult]] = {}
        self._encoders = ThreadPoolExecutor(_ENCODERS, "encode")
        self._chance = random.Random()  # noqa: S311 (jitter)
        self._model = settings.model
        self._refused: set[str] = set()
        self._answers = 0
        self._away_since: float | None = None

    async def start(self) -> EngineInfo:
        """Waits for a server that is not there yet; ValidationFailed for one that does not serve the model."""
        context = httpx.create_ssl_context()
        for _ in range(self._in_flight):
            self._clients.put_nowait(_client(self._settings, context))
        self._spare = _client(self._settings, context)
        try:
            entry = self._served(await self._models())
        except BaseException:
            await self.stop()
            raise
        # It loads for a second.
        await asyncio.to_thread(language.identifier)
        self._model = entry["id"]
        revision = self._settings.model_revision or str(entry.get("revision") or UNKNOWN)
        return EngineInfo("openai", self._model, revision, tuple(TASKS), self._in_flight + _AHEAD)

    def wanted(self) -> int:
        return self._window.size + _AHEAD

    async def recognize(self, request: PageRequest) -> PageResult:
        task = self._tasks[request.request_id] = asyncio.ensure_future(self._read(request))
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is None or not current.cancelling():
                raise Canceled("the page was aborted") from None
            raise
        finally:
            del self._tasks[request.request_id]

    async def abort(self, request_id: str) -> None:
        if (task := self._tasks.get(request_id)) is not None:
            # It closes the connection, by which a server knows that nobody waits for the answer.
            task.cancel()

    async def healthy(self) -> bool:
        since = self._away_since
        if since is None or time.monotonic() - since < self._patience.away:
            return True
        return await self._probe()

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._encoders.shutdown(cancel_futures=True)
        await self._spare.aclose()
        while not self._clients.empty():
            await self._clients.get_nowait().aclose()

    async def _read(self, request: PageRequest) -> PageResult:
        started = time.monotonic()
        cap = min(request.parameters.max_pixels or self._settings.max_pixels, self._settings.max_pixels)
        image, body = await self._in_thread(self._encode, request, cap)
        preprocess_ms = round((time.monotonic() - started) * 1000)
        # What is encoded waits here for its turn, so that a server never waits for what is not.
        async with self._client() as client:
            generated = await self._ask(client, request, image, body)
        result = interpret(request, generated)
        return replace(result, timings_ms={**result.timings_ms, "preprocess": preprocess_ms})

    def _encode(self, request: PageRequest, max_pixels: int) -> tuple[bytes, bytes]:
        if request.pixels is None:
            raise Internal("the engine openai needs pixels")
        image = messages.jpeg(request.pixels, max_pixels)
        return image, messages.body(request, self._model, image, self._refused)

    async def _ask(
        self, client: httpx.AsyncClient, request: PageRequest, image: bytes, body: bytes
    ) -> Generated:
        """Again and again, as long as there is patience; the page's own time begins anew with each request."""
        deadline = time.monotonic() + self._patience.page
        delay, broken, answers = self._patience.backoff, 0, self._answers
        while True:
            request.begun()
            try:
                return await self._send(client, body)
            except Unknown as exc:
                if exc.name in self._refused:
                    raise ValidationFailed(f"the server does not know the member {exc.name}") from exc
                log.warning("openai_member_refused", member=exc.name)
                self._refused.add(exc.name)
                body = await self._in_thread(messages.body, request, self._model, image, self._refused)
                continue
            except Again as exc:
                broken += not exc.busy
                if broken >= _BLAMED_AFTER and (self._answers > answers or await self._probe()):
                    raise Internal(f"other pages are answered, this one is not: {exc.error.detail}") from exc
                pause = exc.after + self._chance.uniform(0, delay)
                if time.monotonic() + pause > deadline:
                    raise exc.error from exc
            await asyncio.sleep(pause)
            delay = min(2 * delay, self._patience.backoff_cap)

    async def _send(self, client: httpx.AsyncClient, body: bytes) -> Generated:
        sent_at = time.monotonic()
        try:
            generated = await _post(client, body)
        except Again as exc:
            if exc.busy:
                self._away_since = None
                self._window.cut(sent_at)
            else:
                self._window.close()
                self._away_since = self._away_since or sent_at
            raise
        except FleetError:
            self._away_since = None
            raise
        self._away_since = None
        self._answers += 1
        self._window.grow()
        return generated

    async def _probe(self) -> bool:
        """Whether the server reads an empty page now; on a connection of its own, for the others may all be in use."""
        with suppress(Again, FleetError, Unknown, TimeoutError):
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await self._send(self._spare, messages.probe(self._model))
        return self._away_since is None

    @asynccontextmanager
    async def _client(self) -> AsyncGenerator[httpx.AsyncClient]:
        client = await self._clients.get()
        try:
            yield client
        finally:
            self._clients.put_nowait(client)

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._encoders, function, *arguments)

    async def _models(self) -> list[dict[str, Any]]:
        """What the server serves, once it is there."""
        deadline, delay = time.monotonic() + self._patience.start, self._patience.backoff
        while True:
            try:
                response = await self._spare.get("models", timeout=_CONNECT_TIMEOUT)
                if response.status_code == HTTPStatus.OK:
                    return messages.models(response.content)
                error: Exception = refusal(response)
                if response.status_code in _OURS:
                    raise ValidationFailed(f"{self._settings.openai_url}: {error}")
            except (httpx.TransportError, messages.MalformedAnswer) as exc:
                error = exc
            if time.monotonic() + delay > deadline:
                raise ModelLoading(f"{self._settings.openai_url} does not answer: {error!r}") from error
            log.warning("openai_server_awaited", url=self._settings.openai_url, error=repr(error))
            await asyncio.sleep(delay)
            delay = min(2 * delay, self._patience.backoff_cap)

    def _served(self, models: list[dict[str, Any]]) -> dict[str, Any]:
        """The entry of the model that the settings name; without a name, the only one."""
        if "model" not in self._settings.model_fields_set and len(models) == 1:
            return models[0]
        wanted = self._settings.model
        for entry in models:
            if entry["id"] == wanted:
                return entry
        names = ", ".join(str(entry["id"]) for entry in models) or "no model"
        raise ValidationFailed(
            f"{self._settings.openai_url} serves {names}, not {wanted}; set OCRFLEET_MODEL"
        )


async def _post(client: httpx.AsyncClient, body: bytes) -> Generated:
    headers = {"Content-Type": "application/json"}
    try:
        response = await client.post("chat/completions", content=body, headers=headers)
    except httpx.TransportError as exc:
        raise Again(EngineCrashed(f"the server does not answer: {exc or type(exc).__name__}")) from exc
    if response.status_code != HTTPStatus.OK:
        raise refusal(response)
    try:
        return messages.generated(response.content)
    except messages.MalformedAnswer as exc:
        raise Again(EngineCrashed(str(exc))) from exc


def _client(settings: Settings, context: ssl.SSLContext) -> httpx.AsyncClient:
    """Directly, past any proxy of the environment, and with keep-alive probes: a host that vanished is no slow page."""
    limits = httpx.Limits(max_connections=1, keepalive_expiry=_IDLE)
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    options += [
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in _KEEPALIVE.items()
        if hasattr(socket, name)
    ]
    key = settings.openai_api_key.get_secret_value()
    return httpx.AsyncClient(
        base_url=settings.openai_url,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        # How long a page may take is the runner's to say.
        timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT),
        transport=httpx.AsyncHTTPTransport(verify=context, limits=limits, socket_options=options),
        trust_env=False,
    )
