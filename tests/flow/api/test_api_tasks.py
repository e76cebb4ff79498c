"""The catalogue over HTTP: what is listed can be asked for, and what a task cannot use is refused."""

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
from api_rig import Api, NewWorker, StartApi
from sqlalchemy import text

from api import answers, examples, ocr, schemas
from ocrfleet import api_types, blobs
from ocrfleet.catalogue import TASKS
from ocrfleet.client import Client
from ocrfleet.db import Database
from ocrfleet.settings import Settings, child_environment

INPUT = {"input": {"type": "prefix", "prefix": "2026/"}}
BASE64 = base64.b64encode(b"never decoded here").decode()
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"total": {"const": None}}}


@pytest.fixture
def able(start_api: StartApi, new_worker: NewWorker) -> Api:
    """An API of a fleet that can do all tasks."""
    new_worker(*TASKS)
    return start_api()


def kept(database: Database) -> list[tuple[str, str | None, dict[str, Any]]]:
    with database.transaction() as session:
        rows = session.execute(text("SELECT task, prompt, options FROM jobs ORDER BY created_at"))
        return [tuple(row) for row in rows]


def test_every_task_is_listed_and_its_example_is_accepted(able: Api, database: Database) -> None:
    listed = able.http.get("/v1/tasks").json()["data"]
    assert [task["name"] for task in listed] == list(TASKS)
    for task in listed:
        assert task["available"]
        assert able.http.post("/v1/jobs", json=task["example"]).status_code == 202
    assert [name for name, _, _ in kept(database)] == list(TASKS)
    table = next(task for task in listed if task["name"] == "table")
    assert table["prompts"]["zh"] == "把图中的表格解析为HTML。"
    assert (table["parameters"]["repetition_penalty"], table["output"]) == (1.0, "markdown")
    assert next(task for task in listed if task["name"] == "question")["prompts"] == {}


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.needs], ids=str)
def test_a_task_without_what_it_needs_is_refused(able: Api, task: str) -> None:
    problem = able.http.post("/v1/jobs", json=INPUT | {"task": task}).json()
    assert problem["code"] == "validation_failed"
    assert [fault["pointer"] for fault in problem["errors"]] == [f"/{TASKS[task].needs[0]}"]


def test_all_that_is_asked_goes_with_the_job(able: Api, database: Database) -> None:
    parameters = {
        "temperature": 0.3, "top_p": 0.95, "top_k": 40, "repetition_penalty": 1.2, "max_tokens": 100,
        "max_pixels": 1_000_000,
    }  # fmt: skip
    options = {"pages": "1", "prompt_language": "en", "parameters": parameters, "cache": False}
    body = INPUT | {"task": "extract", "prompt": "p", "fields": ["a"], "output_schema": SCHEMA}
    assert able.http.post("/v1/jobs", json=body | {"options": options}).status_code == 202
    # Also what is null in the schema.
    assert kept(database) == [("extract", "p", options | {"fields": ["a"], "output_schema": SCHEMA})]


def bad(pointer: str, word: str, **members: object) -> tuple[dict[str, object], str, str]:
    return members, pointer, word


@pytest.mark.parametrize(
    ("members", "pointer", "word"),
    [
        bad("/prompt", "needs prompt", task="question", prompt=" \n"),
        bad("/prompt", "at least 1", task="prompt", prompt=""),
        bad("/fields", "no use", task="text", fields=["a"]),
        bad("/fields", "no use", task="question", prompt="x", fields=["a"]),
        bad("/fields", "not 2", task="value", fields=["a", "b"]),
        bad("/fields", "not 0", task="extract", fields=[]),
        bad("/fields", "not 101", task="extract", fields=[str(n) for n in range(101)]),
        bad("/fields", "'a' twice", task="extract", fields=["a", "b", "a"]),
        bad("/fields/1", "not 257", task="extract", fields=["x" * 256, "x" * 257]),
        bad("/fields/0", "pattern", task="extract", fields=["  "]),
        bad("/fields/0", "NUL", task="extract", fields=["a\0"]),
        bad("/fields/0", "string", task="extract", fields=[5]),
        bad("/output_schema", "no use", task="parse", output_schema=SCHEMA),
        bad("/output_schema", "dictionary", task="extract", output_schema=[]),
        bad("/output_schema", '"object"', task="extract", output_schema={"type": "array"}),
        bad(
            "/output_schema/properties/a~1b/type",
            "strng",
            task="extract",
            output_schema={"type": "object", "properties": {"a/b": {"type": "strng"}}},
        ),
        bad("/options/target_language", "no use", task="text", options={"target_language": "en"}),
        bad("/options/target_language", "'zh'", task="translate", options={"target_language": "fr"}),
        bad("/options/prompt_language", "'en'", options={"prompt_language": "de"}),
        bad("/options/parameters/heat", "not permitted", options={"parameters": {"heat": 1}}),
        bad("/options/cache", "boolean", options={"cache": "no"}),
    ],
)
def test_what_does_not_fit_the_task_is_refused_with_its_place(
    able: Api, members: dict[str, object], pointer: str, word: str
) -> None:
    for path, target in (("/v1/jobs", INPUT), ("/v1/ocr", {"image": BASE64})):
        answer = able.http.post(path, json=target | members)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "validation_failed")
        assert [fault["pointer"] for fault in problem["errors"]] == [pointer]
        assert word in problem["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("temperature", [0, 2, 0.5], [-0.1, 2.1, "1", True]),
        ("top_p", [0.01, 1], [0, 1.1]),
        ("top_k", [-1, 50], [-2, 1.5]),
        ("repetition_penalty", [0.5, 2], [0.4, 2.1]),
        ("max_tokens", [1, 32768], [0, 32769, 1.5]),
        ("max_pixels", [262144, 16777216], [262143, 16777217]),
    ],
)
def test_parameters_have_bounds(able: Api, name: str, good: list[object], bad: list[object]) -> None:
    def send(value: object) -> httpx.Response:
        return able.http.post("/v1/jobs", json=INPUT | {"options": {"parameters": {name: value}}})

    assert [send(value).status_code for value in good] == [202] * len(good)
    for value in bad:
        (fault,) = send(value).json()["errors"]
        assert fault["pointer"] == f"/options/parameters/{name}"


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"fields": ["x" * 40]}, "/fields"),
        ({"output_schema": {"type": "object", "properties": {"x" * 40: {}}}}, "/output_schema"),
    ],
)
def test_names_that_make_the_prompt_too_long_are_refused(
    start_api: StartApi, new_worker: NewWorker, members: dict[str, object], pointer: str
) -> None:
    new_worker("extract")
    limit = len("提取图片中的: [''] 的字段内容，并按照 JSON 格式返回。") + 39
    for more, status in ((0, 422), (1, 202)):
        api = start_api(max_prompt_chars=limit + more)
        answer = api.http.post("/v1/jobs", json=INPUT | {"task": "extract"} | members)
        assert answer.status_code == status
        if status == 422:
            problem = answer.json()
            assert (problem["code"], problem["actual"]) == ("prompt_too_long", limit + 1)
            assert problem["errors"][0]["pointer"] == pointer


def test_a_schema_over_the_limit_is_refused_with_limit_and_actual(
    start_api: StartApi, new_worker: NewWorker
) -> None:
    new_worker("extract")
    api = start_api(max_schema_bytes=60)
    body = INPUT | {"task": "extract", "output_schema": SCHEMA}
    assert api.http.post("/v1/jobs", json=body).status_code == 202
    problem = api.http.post("/v1/jobs", json=body | {"output_schema": SCHEMA | {"title": "x"}}).json()
    assert (problem["errors"][0]["pointer"], problem["limit"]) == ("/output_schema", 60)
    assert problem["actual"] > 60


def test_a_form_and_the_sdk_ask_for_the_same(
    start_api: StartApi, s3: Settings, new_worker: NewWorker, database: Database
) -> None:
    blobs.connect(s3).ensure_bucket(s3.bucket)
    new_worker("extract").serve({"text": "", "fields": {"total": "5"}})
    api = start_api(**s3.model_dump(include={"store_url", "store_access_key", "store_secret_key"}))
    key = api.http.headers["Authorization"].removeprefix("Bearer ")
    with Client(api.url, key) as client:
        result = client.recognize(
            b"image",
            task="extract",
            prompt="p",
            fields=["total"],
            output_schema=SCHEMA,
            options={"prompt_language": "en"},
        )
    assert result.get("fields") == {"total": "5"}
    asked = {"fields": ["total"], "output_schema": SCHEMA, "prompt_language": "en"}
    assert kept(database) == [("extract", "p", asked)]


@pytest.mark.parametrize("name", ["fields", "output_schema"])
def test_a_form_member_that_is_no_json_is_refused(able: Api, name: str) -> None:
    form = {"task": "extract", name: "total"}
    problem = able.http.post("/v1/ocr", files={"file": b"x"}, data=form).json()
    assert [fault["pointer"] for fault in problem["errors"]] == [f"/{name}"]


def test_what_only_a_newer_worker_can_do_is_not_on_offer(start_api: StartApi, new_worker: NewWorker) -> None:
    new_worker("text", "sing")
    problem = start_api().http.post("/v1/jobs", json=INPUT | {"task": "sing"}).json()
    assert (problem["code"], problem["tasks"]) == ("unknown_task", ["text"])


def test_the_command_lists_what_the_fleet_can_do(
    start_api: StartApi, new_worker: NewWorker, tmp_path: Path
) -> None:
    new_worker("text", "parse")
    api = start_api()
    key = api.http.headers["Authorization"].removeprefix("Bearer ")
    env = child_environment(OCRFLEET_URL=api.url, OCRFLEET_API_KEY=key, OCRFLEET_STATE=str(tmp_path))
    out = subprocess.run(
        [sys.executable, "-m", "ocrfleet.cli", "tasks"], env=env, capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [row[0] for row in rows] == list(TASKS)
    assert [row[0] for row in rows if row[1] == "yes"] == ["text", "parse"]


def test_the_examples_of_the_documentation_fit() -> None:
    for example in ocr._JSON_EXAMPLES.values():
        schemas.OcrRequest.model_validate(example["value"])
    assert {"extract", "question"} <= ocr._JSON_EXAMPLES.keys() & examples.JOB_EXAMPLES.keys()
    form = ocr._FORM_SCHEMA["properties"].keys()
    assert form == schemas.PageParameters.model_fields.keys() | {"file"}


def test_the_sdk_knows_the_members_of_a_task() -> None:
    assert set(answers.TaskInfo.model_fields) == set(get_type_hints(api_types.TaskInfo))
    parameters = schemas.ParameterOptions.model_fields.keys()
    assert parameters == set(get_type_hints(api_types.Parameters))
