"""What is refused says what to do, in `next_step`."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from api_rig import Api

from ocrfleet.advice import CALLS
from ocrfleet.client import ApiError, Client

UNKNOWN = uuid4()
JOB: dict[str, Any] = {"input": {"type": "prefix", "prefix": "2026/"}}
Ask = Callable[[httpx.Client], httpx.Response]
REFUSED: list[tuple[str, Ask, str, str]] = [
    ("no such job", lambda http: http.get(f"/v1/jobs/{UNKNOWN}"), f"There is no job {UNKNOWN}", "ocrfleet jobs ls"),
    ("unknown task", lambda http: http.post("/v1/jobs", json=JOB | {"task": "chart"}), "chart", "ocrfleet tasks"),
    ("not a request", lambda http: http.post("/v1/jobs", json={"input": {"type": "prefix"}}), "/input", "`errors`"),
    ("prompt too long", lambda http: http.post("/v1/jobs", json=JOB | {"prompt": "x" * 11}), "10", "shorten"),
    ("no such page", lambda http: http.get("/v1/nothing"), "Not Found", "look whether the id is right"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ask", "detail", "next_step"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_a_refusal_says_what_is_wrong_and_what_to_do(
    strict: Api, ask: Ask, detail: str, next_step: str
) -> None:
    problem = ask(strict.http).json()
    assert detail in problem["detail"]
    assert next_step in problem["next_step"]


@pytest.mark.parametrize("key", ["", "nonsense", "ocrk_0_0"])
def test_a_key_that_does_not_open_says_how_to_get_one(strict: Api, key: str) -> None:
    with strict.client(key) as stranger:
        assert "ocrfleet keys create" in stranger.get("/v1/jobs").json()["next_step"]


def test_the_sdk_hands_the_next_step_on(strict: Api) -> None:
    key = str(strict.http.headers["Authorization"]).removeprefix("Bearer ")
    with Client(strict.url, key) as client, pytest.raises(ApiError) as caught:
        client.job(str(UNKNOWN))
    assert caught.value.next_step == CALLS["not_found"]
