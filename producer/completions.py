"""What a batch's jobs have found, as lines of its output and error files in OpenAI's shape."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ocrfleet.catalogue import TASKS
from ocrfleet.errors import BY_CODE, Internal
from ocrfleet.store.batches import Page


def refused_line(line_id: str, custom_id: str, code: str, message: str) -> bytes:
    """A line of the error file, of a request that was never carried out."""
    error = {"code": code, "message": message}
    return _line({"id": line_id, "custom_id": custom_id, "response": None, "error": error})


def line_of(
    line_id: str, custom_id: str, task: str, pages: Sequence[Page], unread: str
) -> tuple[bool, bytes]:
    """Whether the request was answered, and its line. A document's pages are one answer; `unread` says why there is none."""
    failed = next((page for page in pages if page.state != "succeeded"), None)
    if not pages or (failed and failed.state is None):
        message = "The request was not carried out before the batch ended."
        return False, refused_line(line_id, custom_id, unread, message)
    status, body = (200, _completion(line_id, task, pages)) if failed is None else _failure(failed)
    response = {"status_code": status, "request_id": line_id, "body": body}
    members = {"id": line_id, "custom_id": custom_id, "response": response, "error": None}
    return failed is None, _line(members)


def _completion(line_id: str, task: str, pages: Sequence[Page]) -> dict[str, Any]:
    prompt, output = (_tokens(pages, name) for name in ("prompt_tokens", "output_tokens"))
    message = {
        "role": "assistant",
        "content": "\n\n".join(_answer(task, page.body) for page in pages),
        "refusal": None,
    }
    return {
        "id": f"chatcmpl-{line_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": pages[0].body.get("model") or "",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output},
    }


def _tokens(pages: Sequence[Page], name: str) -> int:
    usage: list[Mapping[str, int] | None] = [page.body.get("usage") for page in pages]
    return sum((one or {}).get(name) or 0 for one in usage)


def _answer(task: str, body: Mapping[str, Any]) -> str:
    """The member that carries the task's answer; JSON where it is no text."""
    found: object = body.get(TASKS[task].output) if task in TASKS else None
    if found is None:
        found = body.get("text") or ""
    return found if isinstance(found, str) else orjson.dumps(found).decode()


def _failure(page: Page) -> tuple[int, dict[str, Any]]:
    error: Mapping[str, Any] = page.body.get("error") or {}
    code = error.get("code", Internal.code)
    status = BY_CODE.get(code, Internal).status
    kind = "server_error" if status >= Internal.status else "invalid_request_error"
    members = {"message": error.get("detail", ""), "type": kind, "param": None, "code": code}
    return status, {"error": members}


def _line(members: Mapping[str, Any]) -> bytes:
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)
