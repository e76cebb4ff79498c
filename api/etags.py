"""ETags: what has not changed is not sent again, and what has is not changed unseen."""

import hashlib
from collections.abc import Mapping
from datetime import UTC
from typing import Any

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ocrfleet.errors import PreconditionFailed

_MEDIA_TYPE = "application/json"


def edition(job: Mapping[Any, Any]) -> str:
    """What stands for those members of a job that a caller may change; its counts may go on."""
    deadline = job["deadline"].astimezone(UTC) if job["deadline"] else None
    return _digest(orjson.dumps([job["priority"], deadline, job["labels"]], option=orjson.OPT_SORT_KEYS))


def of_edition(job: Mapping[str, Any], version: str = "") -> str:
    """The ETag that a handler gives for a job, as it was at a version; the middleware adds what stands for the answer."""
    return f'"{edition(job)}-{version}"' if version else f'"{edition(job)}"'


def is_version(if_none_match: str | None, version: str) -> bool:
    """Whether the header is absent, or has the ETag of a job at that version."""
    if if_none_match is None:
        return True
    tags = [tag.strip().removeprefix("W/").strip('"').split("-") for tag in if_none_match.split(",")]
    return any(parts[1:2] == [version] for parts in tags)


def check_match(if_match: str | None, job: Mapping[Any, Any]) -> None:
    """Raise PreconditionFailed unless the header is absent, `*`, or the ETag of a job that reads the same.

    Of each tag only the edition counts: a running job's counts change at every moment.
    """
    if if_match is None or if_match.strip() == "*":
        return
    tags = [tag.strip().removeprefix("W/").strip('"').partition("-")[0] for tag in if_match.split(",")]
    if edition(job) not in tags:
        raise PreconditionFailed("The job's priority, deadline or labels were changed since; read it again.")


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=9).hexdigest()


class ETags:
    """ASGI middleware: gives each JSON answer to a GET under /v1/ a weak ETag of its body, and knows If-None-Match.

    The work of an answer is done all the same; what is spared is the way back, of clients that poll.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].startswith("/v1/"):
            known = Headers(scope=scope).get("If-None-Match", "")
            send = _Tagged(send, {tag.strip().removeprefix("W/") for tag in known.split(",")})
        await self._app(scope, receive, send)


class _Tagged:
    """The way back, which holds the answer's head until its body is there."""

    def __init__(self, send: Send, known: set[str]) -> None:
        self._send = send
        self._known = known
        self._head: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = Headers(raw=message["headers"])
            # A stream's end is not known at its beginning.
            if (
                message["status"] == 200
                and _MEDIA_TYPE in headers.get("content-type", "")
                and "content-length" in headers
            ):
                self._head = message
                return
        elif self._head is not None:
            head, self._head = self._head, None
            if not message.get("more_body", False):
                message = self._tag(head, message)
            await self._send(head)
        await self._send(message)

    def _tag(self, head: Message, message: Message) -> Message:
        headers = MutableHeaders(raw=head["headers"])
        given = headers.get("etag", "").removeprefix("W/").strip('"')
        parts = [given, _digest(message.get("body", b""))]
        tag = f'"{"-".join(part for part in parts if part)}"'
        headers["ETag"] = f"W/{tag}"
        headers["Cache-Control"] = headers.get("Cache-Control", "private, no-cache")
        head["headers"] = headers.raw
        if not self._known & {tag, "*"}:
            return message
        for name in ("content-length", "content-type"):
            del headers[name]
        head["status"] = 304
        head["headers"] = headers.raw
        return {"type": "http.response.body", "body": b""}
