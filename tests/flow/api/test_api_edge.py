"""What every call has in common: keys, request ids, problems, health, documentation."""

import re
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from api_rig import NOWHERE, Api, Expand, NewWorker, StartApi, until
from fastapi.openapi.models import OpenAPI
from sqlalchemy import text
from structlog.contextvars import merge_contextvars
from structlog.processors import format_exc_info
from structlog.testing import capture_logs

from api import answers, examples, schemas
from api.app import create_app
from ocrfleet import api_types
from ocrfleet.db import Database
from ocrfleet.settings import Settings

EMPTY: dict[str, Any] = {}
DOCUMENT: dict[str, Any] = create_app(Settings()).openapi()
FOUND: list[tuple[str, dict[str, Any]]] = [
    (path, operation) for path, methods in DOCUMENT["paths"].items() for operation in methods.values()
]
NAMES = [operation["operationId"] for _, operation in FOUND]


@pytest.mark.parametrize("key", ["", "ocrk_0_0", "nonsense", "ocrk__"])
def test_without_a_valid_key_nothing_is_told(strict: Api, key: str) -> None:
    with strict.client(key) as stranger:
        for method, path in (
            ("GET", "/v1/jobs"),
            ("POST", "/v1/ocr"),
            ("GET", "/v1/fleet"),
            ("GET", "/v1/tasks"),
        ):
            answer = stranger.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_key_of_the_right_id_with_another_secret_is_refused(strict: Api) -> None:
    key: str = strict.http.headers["Authorization"].removeprefix("Bearer ")
    assert strict.http.get("/v1/tasks").status_code == 200
    with strict.client(key[:-1] + ("0" if key[-1] != "0" else "1")) as stranger:
        assert stranger.get("/v1/tasks").status_code == 401


def test_a_revoked_key_is_refused_within_seconds(api: Api, database: Database) -> None:
    assert api.http.get("/v1/tasks").status_code == 200
    with database.transaction() as session:
        session.execute(text("UPDATE api_keys SET revoked_at = now()"))
    until(lambda: api.http.get("/v1/tasks").status_code == 401)


def test_a_request_id_is_taken_or_made_and_given_back_everywhere(strict: Api) -> None:
    answers = [
        strict.http.get(path, headers={"X-Request-Id": "a.b-1"}) for path in ("/livez", "/v1/jobs", "/x")
    ]
    assert [answer.headers["X-Request-Id"] for answer in answers] == ["a.b-1"] * 3
    assert answers[-1].json()["request_id"] == "a.b-1"
    made = strict.http.get("/x", headers={"X-Request-Id": "a b"})
    assert re.fullmatch(r"[0-9a-f]{32}", made.headers["X-Request-Id"])


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/v1/nothing", 404, "not_found"), ("PUT", "/v1/jobs", 405, "validation_failed")],
)
def test_what_the_router_refuses_is_a_problem_too(
    strict: Api, method: str, path: str, status: int, code: str
) -> None:
    answer = strict.http.request(method, path)
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert {"type", "title", "detail", "retryable", "request_id"} < set(problem)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 99_000, b"", b"5", b'{"input": "\\ud800"}'])
def test_a_body_that_is_no_request_is_the_callers_fault(strict: Api, body: bytes) -> None:
    answer = strict.http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["code"] == "validation_failed"


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_body_over_the_limit_is_refused(strict: Api, in_pieces: bool) -> None:
    pieces: Iterator[bytes] = iter([b" " * 60_000] * 3)
    body = pieces if in_pieces else b" " * 180_000
    answer = strict.http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["limit"]) == (413, "file_too_large", 100_000)
    assert "actual" in problem


def test_an_unexpected_error_is_logged_and_told_without_its_inside(api: Api, database: Database) -> None:
    url = api.http.post("/v1/jobs", json={"input": {"type": "prefix", "prefix": ""}}).headers["Location"]
    with database.transaction() as session:
        session.execute(text("DROP TABLE job_errors"))
    with capture_logs((merge_contextvars, format_exc_info)) as logged:
        answer = api.http.get(url, headers={"X-Request-Id": "req-17"})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["request_id"]) == (500, "internal", "req-17")
    assert "job_errors" not in answer.text
    (event,) = (event for event in logged if event["event"] == "unexpected_error")
    assert event["request_id"] == "req-17"
    assert "UndefinedTable" in event["exception"]


def test_without_a_database_what_changes_nothing_may_be_repeated(start_api: StartApi) -> None:
    api = start_api(database_url=f"postgresql://{NOWHERE}/none")
    read, write = api.http.get("/v1/jobs"), api.http.post("/v1/jobs", json={})
    assert (read.status_code, read.json()["code"], read.headers["Retry-After"]) == (503, "internal", "1")
    assert (write.status_code, write.json()["code"]) == (500, "internal")
    ready = api.http.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"]["postgres"] != "ok"


def test_ready_means_that_all_three_servers_answer(start_api: StartApi, s3: Settings) -> None:
    store = s3.model_dump(include={"store_url", "store_access_key", "store_secret_key"})
    good = start_api(**store).http.get("/readyz")
    assert (good.status_code, good.json()["status"]) == (200, "ready")
    assert good.json()["checks"] == {"postgres": "ok", "broker": "ok", "store": "ok"}


@pytest.mark.parametrize(
    ("setting", "url", "name"),
    [
        ("broker_url", "redis://127.0.0.1:9/0", "broker"),
        ("store_url", "http://127.0.0.1:9", "store"),
    ],
)
def test_a_server_that_is_gone_is_named(
    start_api: StartApi, s3: Settings, setting: str, url: str, name: str
) -> None:
    store = s3.model_dump(include={"store_url", "store_access_key", "store_secret_key"})
    api = start_api(**(store | {setting: url}))
    answer = api.http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert [check for check, found in answer.json()["checks"].items() if found != "ok"] == [name]
    assert api.http.get("/livez").json() == {"status": "live"}


def test_the_fleet_shows_workers_and_what_waits(api: Api, new_worker: NewWorker, expand: Expand) -> None:
    api.http.post("/v1/jobs", json={"input": {"type": "prefix", "prefix": ""}})
    worker = new_worker("text", "parse")
    worker.settle([expand(5)], [EMPTY] * 2)
    fleet = api.http.get("/v1/fleet").json()
    assert fleet["backlog"] == {"bulk": {"jobs": 1, "pages": 3}, "interactive": {"jobs": 0, "pages": 0}}
    (shown,) = fleet["workers"]
    assert (shown["name"], shown["alive"], shown["tasks"]) == ("ocr", True, ["text", "parse"])
    assert shown["heartbeat_age"] >= 0


def test_the_openapi_document_is_valid_and_all_that_it_refers_to_is_there(strict: Api) -> None:
    assert strict.http.get("/openapi.json").json() == DOCUMENT
    OpenAPI.model_validate(DOCUMENT)
    for name in set(re.findall(r"#/components/schemas/(\w+)", str(DOCUMENT))):
        assert name in DOCUMENT["components"]["schemas"]
    assert len(set(NAMES)) == len(NAMES) >= 9
    assert DOCUMENT["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


@pytest.mark.parametrize(("path", "operation"), FOUND, ids=NAMES)
def test_every_operation_is_documented_with_examples_and_errors(path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    if not path.startswith("/v1/"):
        return
    # Stores that tell of their buckets have tokens of their own.
    scheme = "event source" if path == "/v1/bucket-events/{source}" else "key"
    assert operation["security"] == [{scheme: []}]
    success = next(answer for status, answer in operation["responses"].items() if status < "3")
    for media in success.get("content", {}).values():
        referred = DOCUMENT["components"]["schemas"].get(
            media["schema"].get("$ref", "").rpartition("/")[2], {}
        )
        assert "example" in media or "examples" in referred
    for status, answer in operation["responses"].items():
        if status >= "4":
            assert any(content["examples"] for content in answer["content"].values())
    assert {"401", "500"} <= set(operation["responses"])


def test_the_examples_fit_their_models() -> None:
    answers.Job.model_validate(answers.JOB)
    answers.Fleet.model_validate(answers.FLEET)
    answers.TaskInfo.model_validate(answers.TASK)
    answers.Health.model_validate(answers.HEALTH)
    for example in examples.JOB_EXAMPLES.values():
        schemas.JobRequest.model_validate(example["value"])


def test_the_sdk_knows_the_members_of_a_job() -> None:
    assert set(answers.Job.model_fields) == set(get_type_hints(api_types.Job))
    assert set(answers.Counts.model_fields) == set(get_type_hints(api_types.Counts))
