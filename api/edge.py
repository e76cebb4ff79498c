"""The outermost layer of the API: request ids, the bound on bodies, and errors that nobody expected."""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from ocrfleet.db import unreachable
from ocrfleet.errors import FileTooLarge, Internal

log = structlog.get_logger()

REQUEST_ID = "X-Request-Id"
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Edge:
    """ASGI middleware; `limit` gives the most bytes that a body sent to a path may have."""

    def __init__(self, app: ASGIApp, *, limit: Callable[[str], int]) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        method, path, began = scope["method"], scope["path"], time.monotonic()
        answer = _Answer(send, request_id, scope["state"])
        try:
            await self._serve(scope, receive, answer)
        except ClientDisconnect:
            pass
        except Exception as exc:
            log.exception("unexpected_error", method=method, path=path)
            # An answer that has begun cannot be taken back; the server closes the connection, and that shows.
            if not answer.status:
                await _unexpected(exc, method, request_id)(scope, receive, answer)
        finally:
            if path.startswith("/v1/"):
                seconds = round(time.monotonic() - began, 4)
                log.info("request", method=method, path=path, status=answer.status, seconds=seconds)

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        limit = self._limit(scope["path"])
        declared = Headers(scope=scope).get("Content-Length", "")
        if declared.isdecimal() and int(declared) > limit:
            await problems.response(_too_large(limit, declared), answer.request_id)(scope, receive, answer)
        else:
            await self._app(scope, _bounded(receive, limit), answer)


class _Answer:
    """The way back, which adds the request id and what `state` has as headers, and remembers the status."""

    def __init__(self, send: Send, request_id: str, state: Mapping[str, Any]) -> None:
        self._send = send
        self._state = state
        self.request_id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[REQUEST_ID] = self.request_id
            headers.update(self._state.get("headers", {}))
        await self._send(message)


def _unexpected(exc: Exception, method: str, request_id: str) -> Response:
    """A call that changes nothing may be repeated when the database is back: 503 says so to every client."""
    if method == "GET" and unreachable(exc):
        problem = Internal("The database does not answer.", retry_after=1)
        return problems.response(problem, request_id, 503)
    return problems.response(
        Internal("An unexpected error; it is in the log under this request id."), request_id
    )


def _bounded(receive: Receive, limit: int) -> Receive:
    read = 0

    async def bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > limit:
            raise _too_large(limit, f"at least {read}")
        return message

    return bounded


def _too_large(limit: int, actual: str) -> FileTooLarge:
    return FileTooLarge(
        f"The request's body may have {limit} bytes, it has {actual}.", limit=limit, actual=actual
    )
