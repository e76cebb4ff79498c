"""The stream of results: order, cursors, following a job that runs."""

import asyncio
import gzip
import threading
from contextlib import ExitStack, closing
from typing import Any, ClassVar
from uuid import UUID

import httpx
import orjson
import pytest
from api_rig import Api, Expand, NewJob, NewKey, NewWorker, StartApi, until
from sqlalchemy import text

from api.results import Read, Reader, stream_lines
from api.waiting import JobWatch
from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile, EmptyFile
from ocrfleet.store import jobs, outcomes

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


def test_filters_hold_together_and_the_cursor_goes_behind_all_that_was_looked_at(
    api: Api, job: NewJob, new_worker: NewWorker
) -> None:
    job_id, url = job(6)
    new_worker().settle([job_id], [{"text": "a"}, CorruptFile("torn"), {"text": "b"}, EmptyFile("none")])

    def seqs(**which: str) -> list[int]:
        *found, end = lines(api.http.get(url, params=which))
        assert end["cursor"] == "4"
        return [one["seq"] for one in found]

    assert seqs(state="succeeded") == [1, 3]
    assert seqs(state="dead") == [2, 4]
    assert seqs(code="empty_file") == [4]
    assert seqs(custom_id="c1") == [2]
    assert seqs(custom_id="c1", state="succeeded") == []
    assert seqs(state="dead", cursor="2") == [4]
    assert api.http.get(url, params={"state": "running"}).status_code == 422
    *found, end = lines(api.http.get(url, params={"state": "succeeded", "limit": 1}))
    assert ([one["seq"] for one in found], end["cursor"]) == ([1], "1")


def test_a_filter_looks_at_one_window_at_a_time(
    api: Api, job: NewJob, new_worker: NewWorker, database: Database
) -> None:
    del api
    job_id, _ = job(5)
    new_worker().settle([job_id], [EMPTY] * 4 + [CorruptFile("torn")])
    dead = outcomes.ResultFilter(state="dead")
    with database.transaction() as session:
        assert outcomes.chosen(session, job_id, 0, 9, dead, window=3) == ([], 3)
        found, reached = outcomes.chosen(session, job_id, 3, 9, dead, window=3)
        assert (len(found), reached) == (1, 5)
        assert outcomes.chosen(session, job_id, 5, 9, dead, window=3) == ([], 5)


@pytest.mark.parametrize(
    ("accepts", "zipped"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("*, gzip;q=0", False),
        ("br", False),
    ],
)
def test_results_are_compressed_for_who_accepts_it(
    api: Api, job: NewJob, new_worker: NewWorker, accepts: str, zipped: bool
) -> None:
    job_id, url = job(3)
    new_worker().settle([job_id], [{"text": "a" * 1000}] * 3)
    with api.http.stream("GET", url, headers={"Accept-Encoding": accepts}) as answer:
        raw = b"".join(answer.iter_raw())
        assert (answer.headers.get("Content-Encoding") == "gzip") is zipped
        assert answer.headers["Vary"] == "Accept-Encoding"
    plain = gzip.decompress(raw) if zipped else raw
    assert [orjson.loads(line).get("seq") for line in plain.splitlines()] == [1, 2, 3, None]
    assert (len(raw) < len(plain)) is zipped


def test_a_compressed_stream_that_follows_shows_each_result_as_it_comes(
    api: Api, job: NewJob, new_worker: NewWorker
) -> None:
    job_id, url = job(2)
    worker = new_worker()
    worker.settle([job_id], [{"text": "first"}])
    with api.http.stream(
        "GET", url, params={"follow": "true"}, headers={"Accept-Encoding": "gzip"}
    ) as answer:
        parts = answer.iter_lines()
        assert orjson.loads(next(parts))["text"] == "first"
        worker.settle([job_id], [{"text": "second"}])
        rest = [orjson.loads(part) for part in parts if part]
    assert (rest[0]["text"], rest[-1]["_end"]) == ("second", True)


def test_followers_have_so_many_places_and_each_leaves_its_own_again(
    start_api: StartApi, new_key: NewKey, expand: Expand
) -> None:
    api = start_api(followers=3, followers_of_tenant=2)
    url = f"{api.http.post('/v1/jobs', json=PREFIX).headers['Location']}/results"
    expand(5)

    def follow(http: httpx.Client, url: str) -> httpx.Response:
        return http.send(http.build_request("GET", url, params={"follow": "true"}), stream=True)

    with api.client(new_key("other")) as other, ExitStack() as streams:
        theirs = f"{other.post('/v1/jobs', json=PREFIX).headers['Location']}/results"
        mine = [streams.enter_context(closing(follow(api.http, url))) for _ in range(2)]
        one_more = streams.enter_context(closing(follow(api.http, url)))
        assert one_more.status_code == 429
        one_more.read()
        assert one_more.json()["code"] == "rate_limited"
        assert (one_more.json()["limit"], one_more.json()["actual"]) == (2, 2)
        assert int(one_more.headers["Retry-After"]) > 0
        assert api.http.get(url).status_code == 200, "who does not follow needs no place"
        streams.enter_context(closing(follow(other, theirs)))
        full = streams.enter_context(closing(follow(other, theirs)))
        assert full.status_code == 503
        full.read()
        assert (full.json()["code"], full.json()["limit"]) == ("no_capacity", 3)
        assert int(full.headers["Retry-After"]) > 0
        mine[0].close()

        def takes_another() -> bool:
            with closing(follow(api.http, url)) as answer:
                return answer.status_code == 200

        until(takes_another)


class CountingReader(Reader):
    """Knows how often it was asked."""

    reads: ClassVar[int] = 0

    def read(self, seq: int, limit: int) -> Read | None:
        type(self).reads += 1
        return super().read(seq, limit)


def test_a_follower_of_a_job_that_stands_still_reads_nothing(
    job: NewJob, new_worker: NewWorker, database: Database
) -> None:
    job_id, _ = job(5)
    worker, watch = new_worker(), JobWatch(database, poll=0.02)
    reader = CountingReader(database, job_id, outcomes.ResultFilter(), None)

    async def follow() -> bytes:
        watching = asyncio.create_task(watch.run())
        stream = stream_lines(reader, 0, None, watch)
        first = asyncio.ensure_future(anext(stream))
        with database.transaction() as session:
            seen = jobs.standing(session, [job_id])[0].version
        await watch.changed(job_id, seen, 1.0)  # in which the watch looks at the job some fifty times
        assert (CountingReader.reads, first.done()) == (1, False)
        await asyncio.to_thread(worker.settle, [job_id], [{"text": "a"}])
        line = await asyncio.wait_for(first, 15)
        watching.cancel()
        return line

    assert orjson.loads(asyncio.run(follow()))["text"] == "a"
