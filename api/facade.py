"""What /v1/files and /v1/batches have in common: they speak as OpenAI's API does, errors and lists included."""

from collections.abc import Callable, Coroutine
from typing import Any, Literal

import orjson
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from api import problems
from ocrfleet.errors import (
    BY_CODE,
    FleetError,
    Forbidden,
    Internal,
    RateLimited,
    Unauthenticated,
    ValidationFailed,
)

PATHS = ("/v1/files", "/v1/batches")
_PASSED_ON = ("WWW-Authenticate", "Retry-After")


class Fault(BaseModel):
    """What went wrong; `code` is one of this API's, `param` the place in the request."""

    message: str
    type: str
    param: str | None
    code: str | None


class Failure(BaseModel):
    """An error as OpenAI's API writes it."""

    error: Fault


class Page(BaseModel):
    """What the lists of the façade have beside their data; the next page is asked for by `after`."""

    object: Literal["list"] = "list"
    first_id: str | None
    last_id: str | None
    has_more: bool


class FacadeRoute(APIRoute):
    """A route whose errors are told in that shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except FleetError as exc:
                error = exc
            except RequestValidationError as exc:
                error = problems.invalid(exc.errors(), exc.body)
            except HTTPException as exc:  # a body that cannot be parsed
                cause = exc.__cause__
                error = cause if isinstance(cause, FleetError) else ValidationFailed(str(exc.detail))
            return _failure(error, request.state.request_id)

        return handled


def response(path: str, error: FleetError, request_id: str) -> Response:
    """The error as who asks for this path expects it, where no route has been found yet."""
    return (_failure if path.startswith(PATHS) else problems.response)(error, request_id)


def _failure(error: FleetError, request_id: str) -> Response:
    told = problems.response(error, request_id)
    headers = {name: told.headers[name] for name in _PASSED_ON if name in told.headers}
    return Response(orjson.dumps(_body(error)), _status(error), headers, "application/json")


def _status(error: FleetError) -> int:
    """Theirs knows no 422."""
    return 400 if error.status == ValidationFailed.status else error.status


def _body(error: FleetError) -> dict[str, Any]:
    faults: list[dict[str, str]] = error.extra.get("errors") or []
    pointer = faults[0]["pointer"] if faults else ""
    param = pointer.rpartition(":")[2].lstrip("/").replace("/", ".") or None
    kind = "server_error" if error.status >= Internal.status else "invalid_request_error"
    if isinstance(error, RateLimited):
        kind = "rate_limit_error"
    return {"error": {"message": error.detail, "type": kind, "param": param, "code": error.code}}


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route of the façade that may fail so; what nobody expected is a problem document here too."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, Unauthenticated.code, Forbidden.code, RateLimited.code):
        error = BY_CODE[code]()
        status = found.setdefault(
            _status(error), {"model": Failure, "content": {"application/json": {"examples": {}}}}
        )
        status["content"]["application/json"]["examples"][code] = {"value": _body(error)}
    internal = problems.documented()
    return found | {Internal.status: internal[Internal.status]}
