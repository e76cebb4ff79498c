"""What all operations have in common, added to each in the OpenAPI document."""

from typing import Any, cast

from api import idempotency
from api.edge import REQUEST_ID
from api.problems import documented

_REQUEST_ID_IN: dict[str, Any] = {
    "name": REQUEST_ID,
    "in": "header",
    "required": False,
    "description": "Taken into the log and given back; without it, or with one of another kind, the answer has its own.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    "example": "import-17",
}
_REQUEST_ID_OUT = {REQUEST_ID: {"description": "The request's, as in the log.", "schema": {"type": "string"}}}
_IF_NONE_MATCH: dict[str, Any] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of the answer before: 304 without a body if nothing has changed.",
    "schema": {"type": "string", "pattern": "^[!-~]+$"},
    "example": 'W/"5f0c1a"',
}
_ETAG = {"ETag": {"description": "Of this answer, weak.", "schema": {"type": "string"}}}


def complete(document: dict[str, Any]) -> None:
    """Add request ids everywhere, keys for idempotency to POSTs, ETags to JSON that is read, 413 where there is a body."""
    for path, methods in document["paths"].items():
        for method, operation in cast("dict[str, dict[str, Any]]", methods).items():
            operation.setdefault("parameters", []).append(_REQUEST_ID_IN)
            # The framework's own, of routes that tell it otherwise.
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
            if idempotency.takes_key(method.upper(), path):
                idempotency.document(
                    operation, documented("idempotency_mismatch", "idempotency_in_flight", "answer_not_kept")
                )
            if "requestBody" in operation:
                operation["responses"].setdefault("413", documented("file_too_large")[413])
            if method == "get" and path.startswith("/v1/"):
                _add_etag(operation)
            for answer in operation["responses"].values():
                answer["headers"] = answer.get("headers", {}) | _REQUEST_ID_OUT


def _add_etag(operation: dict[str, Any]) -> None:
    answer = operation["responses"].get("200", {})
    if "application/json" in answer.get("content", {}):
        operation["parameters"].append(_IF_NONE_MATCH)
        operation["responses"]["304"] = {"description": "Nothing has changed.", "headers": dict(_ETAG)}
        answer["headers"] = answer.get("headers", {}) | _ETAG
