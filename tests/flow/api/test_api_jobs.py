"""Submitting jobs over HTTP, and what is told of them."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from api_rig import Api, Expand, NewKey, NewWorker, StartApi

from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile
from ocrfleet.store import expansion, jobs

OBJECTS = {"input": {"type": "objects", "objects": [{"key": "a.png"}]}}
PREFIX = {"input": {"type": "prefix", "prefix": "2026/"}}


def leased(database: Database) -> expansion.Expansion:
    with database.transaction() as session:
        found = expansion.lease(session, 60)
    assert found
    return found


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (
            {"type": "objects", "objects": [{"key": "a.pdf", "pages": "1-3", "options": {"password": "x"}}]},
            {
                "type": "objects",
                "objects": [{"bucket": "ocr", "key": "a.pdf", "pages": "1-3", "options": {"password": "x"}}],
            },
        ),
        (
            {"type": "prefix", "bucket": "scans", "prefix": "2026/", "include": ["*.jpg"]},
            {"type": "prefix", "bucket": "scans", "prefix": "2026/", "include": ["*.jpg"], "exclude": []},
        ),
        ({"type": "manifest", "key": "m.jsonl"}, {"type": "manifest", "bucket": "ocr", "key": "m.jsonl"}),
    ],
)
def test_a_job_is_kept_for_the_producer_with_every_bucket_filled_in(
    api: Api, database: Database, given: dict[str, Any], kept: dict[str, Any]
) -> None:
    answer = api.http.post("/v1/jobs", json={"input": given, "options": {"pages": "2"}})
    assert answer.status_code == 202
    expansion = leased(database)
    assert answer.headers["Location"] == f"/v1/jobs/{expansion.job_id}"
    assert (expansion.input, expansion.options) == (kept, {"pages": "2"})


def test_submission_asks_no_store_and_answers_with_the_job(api: Api) -> None:
    """The store of this API is nowhere."""
    body = OBJECTS | {"priority": 7, "labels": {"batch": "nov"}, "deadline": "2027-01-01T01:00:00+01:00"}
    deadline = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    job = api.http.post("/v1/jobs", json=body | {"deadline": deadline.isoformat()}).json()
    assert job == api.http.get(f"/v1/jobs/{job['id']}").json()
    assert job["input"] == {"type": "objects", "count": 1}
    assert (job["state"], job["priority"], job["labels"]) == ("queued", 7, {"batch": "nov"})
    assert datetime.fromisoformat(job["deadline"]) == deadline
    assert job["eta_reason"] == "expanding"
    assert set(job["counts"].values()) == {0}


def bad(path: str, value: object, pointer: str, *words: str) -> tuple[str, object, str, tuple[str, ...]]:
    return path, value, pointer, words


@pytest.mark.parametrize(
    ("path", "value", "pointer", "words"),
    [
        bad("input", None, "/input", "dictionary"),
        bad("input", {"type": "folder"}, "/input", "'objects', 'prefix', 'manifest', 'uploads'"),
        bad("input", {"type": "prefix"}, "/input/prefix", "required"),
        bad("input", {"type": "objects", "objects": []}, "/input/objects", "at least 1 item", "not 0"),
        bad("input", {"type": "objects", "objects": [{"key": "a"}] * 11}, "/input/objects", "10", "not 11"),
        bad("input", {"type": "objects", "objects": [{"key": ""}]}, "/input/objects/0/key", "not 0"),
        bad("input", {"type": "objects", "objects": [{"key": "€" * 342}]}, "/input/objects/0/key", "1026"),
        bad("input", {"type": "manifest", "key": "a\0b"}, "/input/key", "NUL"),
        bad("input", {"type": "manifest", "key": "a", "bucket": "a/b"}, "/input/bucket", "pattern"),
        bad("labels", {"a b": "c"}, "/labels/a b", "pattern"),
        bad("labels", {str(n): "" for n in range(17)}, "/labels", "16", "not 17"),
        bad("labels", {"a": "x" * 257}, "/labels/a", "256", "not 257"),
        bad("priority", 10, "/priority", "9", "not 10"),
        bad("priority", "5", "/priority", "integer"),
        bad("deadline", "2020-01-01T00:00:00Z", "/deadline", "future"),
        bad("deadline", "2030-01-01T00:00:00", "/deadline", "timezone"),
        bad("options", {"pages": "1-"}, "/options/pages", "pattern"),
        bad("options", {"dip": 200}, "/options/dip", "not permitted"),
        bad("colour", "red", "/colour", "not permitted"),
    ],
)
def test_a_request_that_does_not_fit_is_told_where_and_why(
    strict: Api, path: str, value: object, pointer: str, words: tuple[str, ...]
) -> None:
    answer = strict.http.post("/v1/jobs", json=OBJECTS | {path: value})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "validation_failed")
    assert answer.headers["Content-Type"] == "application/problem+json"
    told = {fault["pointer"]: fault["detail"] for fault in problem["errors"]}
    assert set(told) == {pointer}
    assert all(word in " ".join(told.values()) for word in words), told


def test_a_prompt_over_the_limit_is_refused_with_limit_and_actual(strict: Api) -> None:
    problem = strict.http.post("/v1/jobs", json=OBJECTS | {"prompt": "x" * 11}).json()
    assert (problem["code"], problem["limit"], problem["actual"]) == ("prompt_too_long", 10, 11)


def test_an_unknown_task_is_refused_with_those_that_the_configured_or_the_live_engine_can_do(
    start_api: StartApi, new_worker: NewWorker
) -> None:
    first = start_api().http.post("/v1/jobs", json=OBJECTS | {"task": "chart"})
    assert (first.status_code, first.json()["code"]) == (422, "unknown_task")
    assert first.json()["tasks"] == ["parse", "spotting", "text"]
    new_worker("text")
    api = start_api()
    second = api.http.post("/v1/jobs", json=OBJECTS | {"task": "parse"}).json()
    assert (second["code"], second["tasks"]) == ("unknown_task", ["text"])
    told = {task["name"]: task["available"] for task in api.http.get("/v1/tasks").json()["data"]}
    assert [name for name, available in told.items() if available] == ["text"]
    assert {"spotting", "parse", "extract"} < told.keys()


def test_counts_sum_to_the_total_at_every_moment(api: Api, new_worker: NewWorker, expand: Expand) -> None:
    url = api.http.post("/v1/jobs", json=PREFIX).headers["Location"]
    job_id, worker = expand(300), new_worker()

    def work() -> None:
        while worker.settle([job_id], [{"text": "a"}, CorruptFile(), {"text": "b"}]):
            pass

    thread = threading.Thread(target=work)
    thread.start()
    seen = [api.http.get(url).json()]
    while seen[-1]["state"] != "completed":
        seen.append(api.http.get(url).json())
    thread.join()
    for job in seen:
        counts = dict(job["counts"])
        assert counts.pop("total") == sum(counts.values()) == 300
    assert len({job["counts"]["succeeded"] for job in seen}) > 2
    last = seen[-1]
    assert (last["outcome"], last["errors"], last["eta_reason"]) == (
        "partial",
        {"corrupt_file": 100},
        "finished",
    )
    assert last["throughput"] > 0


def test_a_job_says_what_it_waits_for_and_when_it_may_end(
    api: Api, start_api: StartApi, database: Database, new_worker: NewWorker, expand: Expand
) -> None:
    url = api.http.post("/v1/jobs", json=PREFIX).headers["Location"]
    job_id = expand(10)
    alone = api.http.get(url).json()
    assert (alone["blocked_on"], alone["eta_reason"], alone["eta"]) == ("no_workers", "no live workers", None)
    worker = new_worker()
    http = start_api().http  # another replica, which has not asked yet who is alive
    waiting = http.get(url).json()
    assert (waiting["blocked_on"], waiting["eta_reason"]) == (None, "nothing settled yet")
    worker.settle([job_id], [{"text": "a"}] * 4)
    with database.transaction() as session:
        jobs.sample_throughput(session, 0.0)
    moving = http.get(url).json()
    assert (moving["eta_reason"], moving["counts"]["ready"]) == (None, 6)
    assert 0 < moving["eta"]["low_seconds"] < moving["eta"]["high_seconds"]


def test_the_list_gives_every_job_once_newest_first(api: Api) -> None:
    made = [api.http.post("/v1/jobs", json=PREFIX).json()["id"] for _ in range(7)]
    found: list[str] = []
    token: str | None = ""
    while token is not None:
        params = {"page_size": 3, **({"page_token": token} if token else {})}
        page = api.http.get("/v1/jobs", params=params).json()
        assert len(page["data"]) <= 3
        found += [job["id"] for job in page["data"]]
        token = page["next_page_token"]
    assert found == made[::-1]


def test_the_list_is_filtered_by_state_and_by_all_labels_given(api: Api, expand: Expand) -> None:
    def listed(**params: Any) -> list[str]:
        return [job["id"] for job in api.http.get("/v1/jobs", params=params).json()["data"]]

    both = api.http.post("/v1/jobs", json=PREFIX | {"labels": {"a": "1", "b": "x:y"}}).json()["id"]
    one = api.http.post("/v1/jobs", json=PREFIX | {"labels": {"a": "1"}}).json()["id"]
    assert listed(label="a:1") == [one, both]
    assert listed(label=["a:1", "b:x:y"]) == [both]
    assert listed(label="a:2") == []
    expand(0)
    assert (listed(state="completed"), listed(state="queued")) == ([both], [one])


@pytest.mark.parametrize(
    "params",
    [{"page_token": "x"}, {"page_size": 501}, {"label": "a"}, {"state": "done"}, {"page_token": "MQ=="}],
)
def test_a_list_cannot_be_asked_for_with_nonsense(strict: Api, params: dict[str, Any]) -> None:
    answer = strict.http.get("/v1/jobs", params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == f"query:{next(iter(params))}"


def test_another_tenants_job_is_not_there(api: Api, new_key: NewKey) -> None:
    url = api.http.post("/v1/jobs", json=PREFIX).headers["Location"]
    with api.client(new_key("other")) as other:
        for path in (url, f"{url}/results"):
            assert (other.get(path).status_code, other.get(path).json()["code"]) == (404, "not_found")
        assert other.get("/v1/jobs").json()["data"] == []
    assert api.http.get(url).status_code == 200
