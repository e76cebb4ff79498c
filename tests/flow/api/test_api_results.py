"""The stream of results: order, cursors, following a job that runs."""

import threading
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from api_rig import Api, Expand, NewJob, NewWorker, until
from sqlalchemy import text

from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile

EMPTY: dict[str, Any] = {}
PREFIX = {"input": {"type": "prefix", "prefix": "2026/"}}


@pytest.fixture
def job(api: Api, expand: Expand) -> NewJob:
    """Makes a job of so many pages: its id, and the address of its results."""

    def make(count: int, *, listed: bool = True) -> tuple[UUID, str]:
        url = api.http.post("/v1/jobs", json=PREFIX).headers["Location"]
        return expand(count, listed=listed), f"{url}/results"

    return make


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    return [orjson.loads(line) for line in answer.content.split(b"\n") if line]


def test_all_results_come_in_order_over_many_chunks_and_end_with_a_cursor(
    api: Api, job: NewJob, new_worker: NewWorker
) -> None:
    job_id, url = job(2100)
    new_worker().settle([job_id], [{"text": "a"}] * 2099 + [CorruptFile("no end of image")])
    *results, end = lines(api.http.get(url))
    assert [result["seq"] for result in results] == list(range(1, 2101))
    assert len({result["key"] for result in results}) == 2100
    assert end == {"_end": True, "cursor": "2100"}
    last = results[-1]
    assert last["error"] == {"code": "corrupt_file", "retryable": False, "detail": "no end of image"}
    assert (last["state"], last["job_id"], last["bucket"]) == ("dead", str(job_id), "scans")
    assert results[0]["text"] == "a"


def test_a_stream_goes_on_from_a_cursor_or_from_any_results_seq(
    api: Api, job: NewJob, new_worker: NewWorker
) -> None:
    job_id, url = job(10)
    worker = new_worker()
    worker.settle([job_id], [EMPTY] * 4)
    *first, end = lines(api.http.get(url))
    assert end["cursor"] == "4"
    worker.settle([job_id], [EMPTY] * 6)
    *rest, _ = lines(api.http.get(url, params={"cursor": end["cursor"]}))
    assert [result["seq"] for result in first + rest] == list(range(1, 11))
    *some, end = lines(api.http.get(url, params={"cursor": rest[1]["seq"], "limit": 3}))
    assert ([result["seq"] for result in some], end["cursor"]) == ([7, 8, 9], "9")
    assert lines(api.http.get(url, params={"cursor": "10"})) == [{"_end": True, "cursor": "10"}]


@pytest.mark.parametrize("params", [{"cursor": "x"}, {"cursor": "-1"}, {"cursor": "1" * 19}, {"limit": 0}])
def test_a_cursor_that_was_never_given_out_is_refused(api: Api, job: NewJob, params: dict[str, Any]) -> None:
    _, url = job(1)
    answer = api.http.get(url, params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["errors"][0]["pointer"] == f"query:{next(iter(params))}"


def test_following_gives_every_result_of_a_running_job_once_and_ends_with_it(
    api: Api, job: NewJob, new_worker: NewWorker, database: Database
) -> None:
    job_id, url = job(30)
    worker, half_way = new_worker(), threading.Event()
    read: list[dict[str, Any]] = []
    idle: list[int] = []

    def follow() -> None:
        with api.http.stream("GET", url, params={"follow": "true"}) as answer:
            for line in answer.iter_lines():
                if line:
                    read.append(orjson.loads(line))
                if len(read) == 10:
                    half_way.set()

    thread = threading.Thread(target=follow)
    thread.start()
    worker.settle([job_id], [{"text": "a"}] * 10)
    assert half_way.wait(15)
    held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ocrfleet-api' AND state LIKE 'idle in%'"
    for _ in range(20):
        with database.transaction() as session:
            idle.append(session.execute(text(held)).scalar_one())
        worker.settle([job_id], [{"text": "a"}])
    thread.join(15)
    assert [result.get("seq") for result in read] == [*range(1, 31), None]
    assert read[-1] == {"_end": True, "cursor": "30"}
    assert sum(idle) < len(idle)  # a transaction may be seen open for a moment, but not all the time


def test_a_follower_that_leaves_is_not_served_any_longer(api: Api, job: NewJob) -> None:
    _, url = job(5)
    with api.client("") as other:
        request = other.build_request("GET", url, params={"follow": "true"}, headers=api.http.headers)
        answer = other.send(request, stream=True)
        assert api.requests_in_progress == 1
        answer.close()
    until(lambda: api.requests_in_progress == 0)
    assert api.http.get(url).status_code == 200


def test_without_follow_the_stream_of_a_running_job_ends_at_once(api: Api, job: NewJob) -> None:
    _, url = job(5, listed=False)
    assert lines(api.http.get(url)) == [{"_end": True, "cursor": "0"}]
