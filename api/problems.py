"""Errors as RFC 9457 problem documents, and how the documentation shows them."""

from collections.abc import Mapping, Sequence, Sized
from http import HTTPStatus
from typing import Any, cast

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.answers import Problem
from ocrfleet.advice import next_step
from ocrfleet.errors import BY_CODE, FleetError, NotFound, Unauthenticated, ValidationFailed

MEDIA_TYPE = "application/problem+json"
_MOST_FAULTS = 100
_LIMITS = ("max_length", "min_length", "le", "ge", "lt", "gt")


def response(error: FleetError, request_id: str, status: int | None = None) -> Response:
    """The problem document of an error; `extra` becomes members of it."""
    status = status or error.status
    document = {
        **error.extra,
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.detail,
        "code": error.code,
        "next_step": error.extra.get("next_step") or next_step(error.code),
        "retryable": error.retryable,
        "request_id": request_id,
    }
    headers: dict[str, str] = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if "retry_after" in error.extra:
        headers["Retry-After"] = str(error.extra["retry_after"])
    return Response(orjson.dumps(document, default=str), status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error that a handler raises a problem; unexpected ones are the edge's."""
    app.add_exception_handler(FleetError, _fleet_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def _fleet_error(request: Request, exc: Exception) -> Response:
    return response(cast("FleetError", exc), request.state.request_id)


def _http_error(request: Request, exc: Exception) -> Response:
    """What the framework refuses: no such path or method, a body that cannot be parsed."""
    fault = cast("HTTPException", exc)
    if isinstance(fault.__cause__, FleetError):  # raised while the framework read the body
        return response(fault.__cause__, request.state.request_id)
    code = NotFound if fault.status_code == NotFound.status else ValidationFailed
    # A body that is not even JSON is invalid as any other is.
    status = ValidationFailed.status if fault.status_code == HTTPStatus.BAD_REQUEST else fault.status_code
    answer = response(code(fault.detail), request.state.request_id, status)
    answer.headers.update(fault.headers or {})
    return answer


def _validation_error(request: Request, exc: Exception) -> Response:
    fault = cast("RequestValidationError", exc)
    return response(invalid(fault.errors(), fault.body), request.state.request_id)


def invalid(errors: Sequence[Any], body: object) -> ValidationFailed:
    """Pydantic's errors, each with its place in the request, the limit and the actual value."""
    return refused(*((_pointer(fault["loc"], body), _detail(fault)) for fault in errors))


def refused(*faults: tuple[str, str], **extra: Any) -> ValidationFailed:
    """An error that names its faults as (pointer, detail)."""
    pointer, detail = faults[0]
    more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
    listed = [{"pointer": _plain(where), "detail": _plain(what)} for where, what in faults[:_MOST_FAULTS]]
    return ValidationFailed(_plain(f"{pointer or 'The body'}: {detail}{more}"), errors=listed, **extra)


def _plain(text: str) -> str:
    """What a caller has said as JSON may have it."""
    return text.encode(errors="backslashreplace").decode()


def _detail(fault: Mapping[str, Any]) -> str:
    message: str = fault["msg"].removeprefix("Value error, ").removesuffix(", not more")
    if fault["type"] == "json_invalid":
        return f"{message} at character {fault['loc'][-1]}: {fault['ctx']['error']}"
    if " not " in message or not any(limit in fault.get("ctx", {}) for limit in _LIMITS):
        return message
    actual: object = fault.get("input")
    return f"{message}, not {len(actual) if isinstance(actual, Sized) else actual}"


def _pointer(loc: Sequence[str | int], body: object) -> str:
    """A JSON pointer for pydantic's path, which also names the chosen members of unions."""
    where, *path = loc
    if where != "body":
        return ":".join(map(str, loc))
    pointer, value, tagged = "", body, False
    for n, part in enumerate(path):
        if isinstance(value, dict):
            members = cast("dict[str | int, object]", value)
            is_tag = not tagged and members.get("type") == part
            if is_tag or (part not in members and n < len(path) - 1):
                tagged = is_tag
                continue
            value = members.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            value = cast("list[object]", value)[part]
        else:
            continue
        tagged = False
        pointer += "/" + str(part).replace("~", "~0").replace("/", "~1")
    return pointer


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may fail so; each also with `internal`, and what every caller may meet."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, Unauthenticated.code, "forbidden", "rate_limited", "internal"):
        error = BY_CODE[code]()
        status = found.setdefault(error.status, _no_examples(error.status))
        example: dict[str, Any] = orjson.loads(response(error, "5f0c1a").body)
        status["content"][MEDIA_TYPE]["examples"][code] = {"value": example}
    return found


def _no_examples(status: int) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    return {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": schema, "examples": {}}},
    }
