"""Idempotency-Key: a POST that is sent again is not carried out again.

The key is claimed in the record before the request reaches its handler, and the answer is kept there before it is
sent. Between the handler's commit and that, a process may die: the claim therefore carries the id of what the request
makes (`NewId`), so that whoever takes it over finds what is there. The answer is not kept in the handler's own
transaction, since it is made after that has ended; nor is the id derived from the key alone, since a key may be used
again for something else when its day is over.
"""

import asyncio
import hashlib
import re
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import IO, Annotated, Any
from uuid import UUID, uuid4

import structlog
from fastapi import Depends, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.deps import Services
from ocrfleet.errors import FleetError, IdempotencyInFlight, IdempotencyMismatch
from ocrfleet.store import idempotency
from ocrfleet.store.idempotency import Claim, Kept
from ocrfleet.store.tenants import Caller

log = structlog.get_logger()

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
MAX_KEY = 255
_KEY = re.compile(rf"[\x21-\x7e](?:[\x20-\x7e]{{0,{MAX_KEY - 2}}}[\x21-\x7e])?")
_EXCLUDED = ("/v1/ocr", "/v1/bucket-events")
"""Reading one image makes nothing that lasts, and ends with its caller; events are known by their own identity."""
_KEPT_HEADERS = ("content-type", "location", "etag", "cache-control")
_NOT_KEPT = frozenset({401, 403, 408, 429})
"""Answers that say nothing about the request itself."""
_SECRETS = (b'"ocrk_', b'"whsec_')
"""What an answer that is shown once has in it, should its `Cache-Control: no-store` be forgotten."""
_IN_MEMORY = 1024 * 1024
_CHUNK = 64 * 1024
_RENEW = idempotency.STALE / 3
_BUSY = 1
"""Seconds after which a request that is still being answered may be asked for again."""


def takes_key(method: str, path: str) -> bool:
    """Whether a request of this kind may have an Idempotency-Key."""
    return method == "POST" and path.startswith("/v1/") and not path.startswith(_EXCLUDED)


async def _new_id(request: Request) -> UUID:
    return getattr(request.state, "resource_id", None) or uuid4()


NewId = Annotated[UUID, Depends(_new_id)]
"""Of what the handler makes: the same one when the request is sent again, so that it must find what is there."""


class Idempotency:
    """ASGI middleware within the edge: it may raise what the edge answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not takes_key(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        services: Services = scope["state"]["services"]
        caller: Caller | None = scope["state"].get("caller")
        if HEADER not in headers or caller is None:
            # There is nothing to do without a key, nor for what is no route: others were refused before.
            await self._app(scope, receive, send)
            return
        try:
            key = _key(headers[HEADER])
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as body:
                digest = await _take_in(scope, caller, receive, body)
                body.seek(0)
                await self._once(scope, _replay(body, receive), send, (services, caller, key, digest))
        except FleetError as exc:
            await problems.response(exc, scope["state"]["request_id"])(scope, receive, send)

    async def _once(
        self, scope: Scope, receive: Receive, send: Send, asked: tuple[Services, Caller, str, bytes]
    ) -> None:
        services, caller, key, digest = asked
        found = await run_in_threadpool(_claim, services, caller, key, digest)
        if isinstance(found, Kept):
            await _known(found, digest)(scope, receive, send)
            return
        scope["state"]["resource_id"] = found.resource_id
        answer = _Answer()
        try:
            async with _renewing(services, found):
                await self._app(scope, receive, answer)
        finally:
            # Before it is sent, so that whoever has the answer gets the same one again.
            await run_in_threadpool(_settle, services, found, answer)
        for message in answer.messages:
            await send(message)


def _key(given: str) -> str:
    """The header is a string of a structured field (RFC 8941); one without its quotes is taken as it is."""
    if len(given) > 1 and given[0] == given[-1] == '"':
        given = re.sub(r'\\(["\\])', r"\1", given[1:-1])
    if not _KEY.fullmatch(given):
        detail = f"must be 1 to {MAX_KEY} printable ASCII characters, not {len(given)} of another kind"
        raise problems.refused((f"header:{HEADER}", detail), limit=MAX_KEY, actual=len(given))
    return given


async def _take_in(scope: Scope, caller: Caller, receive: Receive, body: IO[bytes]) -> bytes:
    """Read the body into a file; the request's digest, in which the scopes of the caller stand for what it may see."""
    headers = Headers(scope=scope)
    what = (scope["method"], scope["path"], scope["query_string"].decode("latin-1"), *sorted(caller.scopes))
    digest = _Digest(headers.get("Content-Type", ""), "\0".join(what))
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        body.write(chunk)
        digest.update(chunk)
        more = message.get("more_body", False)
    return digest.end()


class _Digest:
    """SHA-256 of a request. The boundary of a form is left out: clients draw another one when they repeat it."""

    def __init__(self, content_type: str, what: str) -> None:
        found = re.search(r'multipart/.*boundary="?([^";,]+)', content_type, re.IGNORECASE)
        self._boundary = found[1].encode("latin-1") if found else b""
        self._hash = hashlib.sha256(f"{what}\0{content_type.partition(';')[0]}\0".encode())
        self._rest = b""

    def update(self, chunk: bytes) -> None:
        if not self._boundary:
            self._hash.update(chunk)
            return
        data = (self._rest + chunk).replace(self._boundary, b"")
        # A boundary may go on in the next chunk.
        keep = len(self._boundary) - 1
        self._hash.update(data[: max(0, len(data) - keep)])
        self._rest = data[max(0, len(data) - keep) :]

    def end(self) -> bytes:
        self._hash.update(self._rest)
        return self._hash.digest()


def _replay(body: IO[bytes], receive: Receive) -> Receive:
    """The body once more, and then what else the caller does."""
    ended = False

    async def replayed() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        chunk = body.read(_CHUNK)
        ended = len(chunk) < _CHUNK
        return {"type": "http.request", "body": chunk, "more_body": not ended}

    return replayed


class _Answer:
    """The handler's answer, held back. Those to POST are small: results and files are read by GET."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return self.messages[0]["status"] if self.messages else 500

    @property
    def headers(self) -> dict[str, str]:
        headers = Headers(raw=self.messages[0]["headers"])
        return {name: headers[name] for name in _KEPT_HEADERS if name in headers}

    @property
    def body(self) -> bytes | None:
        """None where it has a secret, of which nothing but a digest may be kept."""
        body = b"".join(message.get("body", b"") for message in self.messages)
        secret = "no-store" in self.headers.get("cache-control", "") or any(mark in body for mark in _SECRETS)
        return None if secret else body


@asynccontextmanager
async def _renewing(services: Services, held: Claim) -> AsyncGenerator[None]:
    """Keep the claim alive, however long the handler takes."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(_RENEW)
            with suppress(SQLAlchemyError):
                await run_in_threadpool(_renew, services, held)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()


def _claim(services: Services, caller: Caller, key: str, digest: bytes) -> Claim | Kept:
    with services.database.transaction() as session:
        return idempotency.claim(session, caller.tenant_id, key, digest)


def _renew(services: Services, held: Claim) -> None:
    with services.database.transaction() as session:
        idempotency.renew(session, held)


def _settle(services: Services, held: Claim, answer: _Answer) -> None:
    try:
        with services.database.transaction() as session:
            if answer.status >= 500 or answer.status in _NOT_KEPT:
                # A refusal comes before anything is made; a failure may have come after a commit.
                idempotency.give_back(session, held, made_nothing=answer.status < 500)
            else:
                idempotency.keep(session, held, answer.status, answer.headers, answer.body)
    except SQLAlchemyError as exc:
        # The act is done and its caller is told; who repeats it takes the claim over and finds what was made.
        log.warning("answer_not_kept", error=str(exc))


def _known(kept: Kept, digest: bytes) -> Response:
    """The answer that was given before; FleetErrors where there is none for this request."""
    if kept.request_sha256 != digest:
        raise IdempotencyMismatch(
            f"This {HEADER} was sent with another request; take a new one for each thing to be done."
        )
    if kept.status is None:
        raise IdempotencyInFlight("The first request is still being answered.", retry_after=_BUSY)
    if kept.body is None:
        raise idempotency.told_once(
            f"what is at {kept.headers['location']}" if "location" in kept.headers else "it"
        )
    response = Response(kept.body, kept.status)
    for name, value in kept.headers.items():
        response.headers[name] = value
    response.headers[REPLAYED] = "true"
    return response


def document(operation: dict[str, Any], codes: Mapping[int | str, dict[str, Any]]) -> None:
    """Add the header, and what may come of it, to an operation of the OpenAPI document."""
    header: dict[str, Any] = {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": "Sent again with the same request within a day, the first answer is given again, with "
        f"`{REPLAYED}: true`, and nothing is done twice.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$"},
        "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
    }
    operation.setdefault("parameters", []).append(header)
    for status, answer in codes.items():
        there = operation["responses"].setdefault(str(status), answer)
        for media, content in answer["content"].items():
            examples = there.setdefault("content", {}).setdefault(media, content).setdefault("examples", {})
            examples |= content["examples"]
