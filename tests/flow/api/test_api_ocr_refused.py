"""What POST /v1/ocr refuses before anything is stored: the store of this API is nowhere."""

import base64
from typing import Any

import pytest
from api_rig import Api

IMAGE = b"\x89PNG but never decoded here"
BASE64 = base64.b64encode(IMAGE).decode()
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("send", "status", "code", "more"),
    [
        ({"files": {"file": b"x" * 1001}}, 413, "file_too_large", {"limit": 1000, "actual": 1001}),
        ({"files": {"file": b""}}, 422, "empty_file", {}),
        (
            {"json": {"image": base64.b64encode(b"x" * 1001).decode()}},
            413,
            "file_too_large",
            {"actual": 1001},
        ),
        ({"json": {"image": ""}}, 422, "empty_file", {}),
        ({"content": b"x" * 2_000_000}, 413, "file_too_large", {"actual": "2000000"}),
        ({"content": iter([b"x" * 1_000_000] * 3)}, 413, "file_too_large", {}),
        ({"content": IMAGE, "headers": {"Content-Type": "image/png"}}, 415, "unsupported_media_type", {}),
        ({"json": {"image": BASE64, "task": "chart"}}, 422, "unknown_task", {"tasks": ["text"]}),
        (
            {"json": {"image": BASE64, "prompt": "x" * 11}},
            422,
            "prompt_too_long",
            {"limit": 10, "actual": 11},
        ),
    ],
)
def test_what_cannot_be_read_is_refused_before_it_is_stored(
    strict: Api,
    send: dict[str, Any],
    status: int,
    code: str,
    more: dict[str, Any],
) -> None:
    # Bytes go out as JSON unless a case says otherwise.
    defaults: dict[str, Any] = {"headers": JSON} if "content" in send else {}
    answer = strict.http.post("/v1/ocr", **{**defaults, **send})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code)
    assert {name: problem[name] for name in more} == more


@pytest.mark.parametrize(
    ("send", "pointer"),
    [
        ({"json": {}}, "/image"),
        ({"json": {"image": "no base64!"}}, "/image"),
        ({"json": {"image": "data:image/png,abc"}}, "/image"),
        ({"json": {"image": 5}}, "/image"),
        ({"json": {"image": {"bucket": "scans"}}}, "/image/key"),
        ({"json": {"image": BASE64, "options": {"pages": "1"}}}, "/options/pages"),
        ({"content": b"{", "headers": JSON}, ""),
        ({"files": {"other": b"x"}}, "/other"),
        ({"files": {"file": b"x"}, "data": {"options": "{"}}, "/options"),
        ({"files": {"file": b"x"}, "data": {"options": '{"a": 1}'}}, "/options/a"),
        ({"data": {"file": "x"}, "files": {}}, None),
    ],
)
def test_a_request_that_does_not_fit_is_told_where(
    strict: Api, send: dict[str, Any], pointer: str | None
) -> None:
    answer = strict.http.post("/v1/ocr", **send)
    if pointer is None:
        assert answer.status_code == 415
    else:
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
