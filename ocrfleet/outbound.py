"""Requests to addresses that callers name: the name is looked up once, and the connection made to what was checked."""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import httpcore
import httpx

from ocrfleet.addresses import is_allowed
from ocrfleet.settings import Settings

_PORTS = {"https": 443, "http": 80}
_LAST_PORT = 65535
_CONNECT_SECONDS = 4.0
_ADDRESSES_AT_MOST = 4
_LOOKUPS = 128
"""More than half the slots of a producer, since a look-up that hangs goes on after its request has been given up."""
_LONGEST_RETRY_AFTER = 86_400


class UrlRefused(ValueError):  # noqa: N818  (it says what happened)
    """We connect to no such address; what it says may be shown to whoever named it."""


class Resolver(Protocol):
    """Finds the addresses of a name."""

    async def resolve(self, host: str) -> Sequence[str]:
        """At least one, as text; OSError where there is none."""
        ...


class SystemResolver:
    """The system's, on threads of its own: one that hangs holds up nothing else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="resolve")

    async def resolve(self, host: str) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host)
        return list(dict.fromkeys(found))


def _look_up(host: str) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request went; without a `status` there is an `error`."""

    status: int | None
    error: str | None
    milliseconds: int
    body: str = ""
    """Its beginning, if it was asked for."""
    retry_after: int = 0
    """Seconds, where the receiver asks for them."""

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def fault(self) -> str | None:
        """Why it did not succeed."""
        return (
            self.error if self.status is None or self.is_success else f"the receiver answered {self.status}"
        )


@dataclass(frozen=True, slots=True)
class _Target:
    scheme: bytes
    host: bytes
    port: int
    path: bytes


class Outbound:
    """Sends what callers ask for to where they ask, and nowhere inside. Use it on one event loop."""

    def __init__(self, settings: Settings, resolver: Resolver | None = None) -> None:
        self._timeout = settings.webhook_timeout
        self._networks = settings.webhook_networks
        self._ports = settings.webhook_ports
        self._schemes = ("https", "http") if settings.webhook_http else ("https",)
        self._ca_file = settings.webhook_ca_file
        self._resolver = resolver or SystemResolver()

    async def check(self, url: str) -> None:
        """UrlRefused unless it may be called now; each call asks again."""
        target = self._parse(url)
        try:
            async with asyncio.timeout(self._timeout):
                await self.addresses(target.host.decode())
        except TimeoutError:
            raise UrlRefused("its host is not found in time") from None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, excerpt: int = 0) -> Answer:
        """Send a body; never raises for what the receiver or the network does. `excerpt` bytes of the answer are kept."""
        began, seen = time.monotonic(), _Seen()
        error: str | None = None
        try:
            async with asyncio.timeout(self._timeout):
                await self._send(self._parse(url), headers, body, excerpt, seen)
        except UrlRefused as exc:
            error = f"refused: {exc}"
        except (TimeoutError, httpcore.TimeoutException):
            error = f"no answer within {self._timeout:g} s"
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as exc:
            error = _plain(str(exc)) or type(exc).__name__
        spent = round((time.monotonic() - began) * 1000)
        if seen.status is None:
            return Answer(None, error, spent)
        return Answer(
            seen.status, None, spent, _plain(seen.body.decode("utf-8", "replace")), seen.retry_after
        )

    async def addresses(self, host: str) -> Sequence[str]:
        """Those of a name, looked up now; UrlRefused unless every one is allowed."""
        found: Sequence[str] = ()
        with suppress(OSError, UnicodeError):
            found = await self._resolver.resolve(host)
        if not found:
            raise UrlRefused(f"the host {host} is not found")
        # Which one, and what it is, would tell a stranger of names inside.
        if not all(is_allowed(address, self._networks) for address in found):
            raise UrlRefused(f"the host {host} is not at a public address")
        return found

    def _parse(self, url: str) -> _Target:
        """The parts of a URL. What is checked is what is used: nothing parses it a second time."""
        try:
            parsed = httpx.URL(url)
            scheme, host, path = parsed.raw_scheme, parsed.raw_host, parsed.raw_path
        except (httpx.InvalidURL, UnicodeError, ValueError) as exc:
            raise UrlRefused(f"it is not a URL: {exc}") from None
        if parsed.scheme not in self._schemes:
            raise UrlRefused(f"it must begin with {' or '.join(f'{name}://' for name in self._schemes)}")
        if parsed.userinfo:
            raise UrlRefused("it must have no user name and no password")
        if not host:
            raise UrlRefused("it names no host")
        port = _PORTS[parsed.scheme] if parsed.port is None else parsed.port
        if not 0 < port <= _LAST_PORT:
            raise UrlRefused(f"there is no port {port}")
        if self._ports and port not in self._ports:
            raise UrlRefused(f"its port must be one of {', '.join(map(str, self._ports))}, not {port}")
        return _Target(scheme, host, port, path)

    async def _send(
        self, target: _Target, headers: Mapping[str, str], body: bytes, excerpt: int, seen: "_Seen"
    ) -> None:
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        # A connection of its own each time: one that is kept would be to an address of yesterday.
        async with (
            httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=_Checked(self)) as pool,
            pool.stream("POST", url, headers=list(headers.items()), content=body) as response,
        ):
            seen.status = response.status
            for name, value in response.headers:
                if name.lower() == b"retry-after" and value.isdigit():
                    seen.retry_after = min(int(value[:9]), _LONGEST_RETRY_AFTER)
            if excerpt:
                async for part in response.aiter_stream():
                    seen.body += part[: excerpt - len(seen.body)]
                    if len(seen.body) >= excerpt:
                        break

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = httpx.create_ssl_context()
        if self._ca_file:
            context.load_verify_locations(self._ca_file)
        return context


@dataclass(slots=True)
class _Seen:
    """What has come of an answer, should the rest not come."""

    status: int | None = None
    retry_after: int = 0
    body: bytes = b""


class _Checked(httpcore.AsyncNetworkBackend):
    """Looks names up itself, once, and connects to what it has checked; TLS and `Host` keep the name."""

    def __init__(self, outbound: Outbound) -> None:
        self._outbound = outbound
        # Its types are hidden behind whether anyio is installed.
        self._network = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  (the signature is the library's)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        last: Exception | None = None
        for address in (await self._outbound.addresses(host))[:_ADDRESSES_AT_MOST]:
            try:
                return await self._network.connect_tcp(
                    address, port, timeout or _CONNECT_SECONDS, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                last = exc
        raise last or httpcore.ConnectError("no address")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


def _plain(said: str) -> str:
    """Postgres takes no NUL characters, and a terminal should get none of the others."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in said)
