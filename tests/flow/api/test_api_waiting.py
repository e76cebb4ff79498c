"""Waiting for jobs: by notification alone, by polling alone, and over HTTP."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import httpx
import pytest
from api_rig import Api, Expand, NewWorker, until
from fleet_builders import sql
from sqlalchemy import text

from api.waiting import JobWatch
from ocrfleet.db import Database
from ocrfleet.store import control, jobs, tenants
from ocrfleet.store.jobs import NewJob
from ocrfleet.store.notify import JOB_DONE, notify

LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle' AND datname = current_database()"


async def wakes(watch: JobWatch, job_id: UUID, act: Callable[[], None], *, seen: str | None = None) -> bool:
    """Whether two waiters are told of what the act does to the job, and one for another job of nothing."""
    running = asyncio.create_task(watch.run())
    try:
        with (
            watch.expect(job_id, seen) as one,
            watch.expect(job_id, seen) as two,
            watch.expect(uuid4(), seen) as other,
        ):
            await asyncio.to_thread(act)
            await asyncio.wait_for(asyncio.gather(one.wait(), two.wait()), 15)
            return not other.is_set()
    finally:
        running.cancel()


def make(database: Database) -> UUID:
    job_id = uuid4()
    with database.transaction() as session:
        caller = tenants.authenticate(session, tenants.create_key(session))
        jobs.create(session, NewJob(job_id, caller.tenant_id, "text", {"type": "prefix"}))
    return job_id


def version(database: Database, job_id: UUID) -> str:
    with database.transaction() as session:
        return jobs.standing(session, [job_id])[0].version


def when_listening(database: Database) -> None:
    until(lambda: sql(database, LISTENING)[0][0])


def test_the_end_of_a_job_wakes_who_waits(database: Database) -> None:
    job_id = make(database)

    def end() -> None:
        when_listening(database)
        with database.transaction() as session:
            notify(session, JOB_DONE, "no job id")
        with database.transaction() as session:
            tenant = session.execute(text("SELECT tenant_id FROM jobs")).scalar_one()
            control.cancel(session, tenant, job_id)

    assert asyncio.run(wakes(JobWatch(database, poll=3600), job_id, end))


def test_polling_finds_an_end_that_was_not_notified(database: Database) -> None:
    job_id = make(database)
    ended = "UPDATE jobs SET state = 'canceled', finished_at = now()"
    assert asyncio.run(wakes(JobWatch(database, poll=0.05), job_id, lambda: sql(database, ended) and None))


def test_polling_finds_a_change_that_who_waits_has_not_seen(database: Database) -> None:
    job_id = make(database)
    seen = version(database, job_id)
    changed = "UPDATE jobs SET priority = 3"
    watch = JobWatch(database, poll=0.05)
    assert asyncio.run(wakes(watch, job_id, lambda: sql(database, changed) and None, seen=seen))
    # Also one that came before the waiting began.
    assert asyncio.run(wakes(watch, job_id, lambda: None, seen=seen))


def test_without_a_change_the_wait_ends_by_itself(database: Database) -> None:
    job_id = make(database)
    watch = JobWatch(database, poll=0.02)

    async def wait() -> bool:
        running = asyncio.create_task(watch.run())
        began = time.monotonic()
        await watch.changed(job_id, version(database, job_id), 0.3)
        running.cancel()
        return time.monotonic() - began >= 0.3

    assert asyncio.run(wait())


@pytest.fixture
def job_url(api: Api, expand: Expand) -> str:
    body = {"input": {"type": "prefix", "bucket": "scans", "prefix": "a/"}}
    url: str = api.http.post("/v1/jobs", json=body).headers["Location"]
    expand(2)
    return url


def waiting_for(
    api: Api, url: str, **headers: str
) -> tuple[ThreadPoolExecutor, Callable[[], httpx.Response]]:
    """A request that waits for a minute, begun: the API knows of it."""
    threads = ThreadPoolExecutor(1)
    future = threads.submit(api.http.get, url, params={"wait": 60}, headers=headers, timeout=90)
    until(lambda: api.requests_in_progress or future.done())
    threads.shutdown(wait=False)
    return threads, lambda: future.result(60)


def test_a_request_waits_for_the_jobs_end_and_holds_nothing(
    api: Api, database: Database, job_url: str, new_worker: NewWorker
) -> None:
    etag = api.http.get(job_url).headers["ETag"]
    threads, answer = waiting_for(api, job_url, **{"If-None-Match": etag})
    held = "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in%' AND datname = current_database()"
    pause = threading.Event()
    for _ in range(20):
        assert sql(database, held) == [], "no transaction is open while it waits"
        assert api.requests_in_progress == 1
        pause.wait(0.05)
    job_id = UUID(job_url.rpartition("/")[2])
    new_worker().settle([job_id], [{"text": "a"}, {"text": "b"}])
    told = answer()
    assert (told.status_code, told.json()["state"]) == (200, "completed")
    assert told.headers["ETag"] != etag
    del threads


def test_what_the_caller_has_not_seen_is_answered_at_once(
    api: Api, database: Database, job_url: str, new_worker: NewWorker
) -> None:
    etag = api.http.get(job_url).headers["ETag"]
    sql(database, "UPDATE jobs SET priority = 7")
    answer = api.http.get(job_url, params={"wait": 60}, headers={"If-None-Match": etag}, timeout=20)
    assert answer.json()["priority"] == 7
    job_id = UUID(job_url.rpartition("/")[2])
    new_worker().settle([job_id], [{"text": "a"}, {"text": "b"}])
    ended = api.http.get(job_url, params={"wait": 60}, timeout=20)
    assert ended.json()["state"] == "completed", "nothing more comes"
    again = api.http.get(
        job_url, params={"wait": 60}, headers={"If-None-Match": ended.headers["ETag"]}, timeout=20
    )
    assert (again.status_code, again.content) == (304, b"")


def test_a_wait_without_a_change_ends_with_what_there_is(api: Api, job_url: str) -> None:
    began = time.monotonic()
    assert api.http.get(job_url, params={"wait": 0.5}).json()["state"] == "queued"
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize("wait", ["61", "-1", "x", "nan"])
def test_a_wait_is_of_a_minute_at_most(api: Api, job_url: str, wait: str) -> None:
    refused = api.http.get(job_url, params={"wait": wait})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "query:wait")


def test_who_may_not_see_a_job_does_not_wait_for_it(api: Api, job_url: str) -> None:
    assert api.http.get(f"{job_url[:-12]}{'0' * 12}", params={"wait": 60}, timeout=20).status_code == 404
