"""Why a job waits, asked over HTTP while the record really is so."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from api_rig import Api, Expand, NewKey, NewWorker, StartApi, until
from sqlalchemy import text

from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile, StorageUnavailable

PREFIX = {"input": {"type": "prefix", "prefix": "2026/"}}
Make = Callable[..., tuple[str, UUID]]


@pytest.fixture
def make(api: Api, expand: Expand) -> Make:
    """A job with pages, as (its URL, its id)."""

    def make(pages: int = 3) -> tuple[str, UUID]:
        url = api.http.post("/v1/jobs", json=PREFIX).headers["Location"]
        return url, expand(pages)

    return make


def told(api: Api, url: str) -> dict[str, dict[str, Any]]:
    """The reasons by their code."""
    answer = api.http.get(f"{url}/explain")
    assert answer.status_code == 200
    return {reason["code"]: reason for reason in answer.json()["reasons"]}


def execute(database: Database, statement: str, **values: object) -> None:
    with database.transaction() as session:
        session.execute(text(statement), values)


def test_without_a_worker_that_is_what_is_told(api: Api, make: Make) -> None:
    url, job = make()
    found = api.http.get(f"{url}/explain").json()
    assert (found["job_id"], found["state"]) == (str(job), "queued")
    assert found["reasons"][0]["code"] == "no_workers"
    assert "ocrfleet workers start" in found["reasons"][0]["next_step"]


def test_a_tripped_worker_is_told_with_what_it_said(
    api: Api, make: Make, new_worker: NewWorker, database: Database
) -> None:
    url, _ = make()
    new_worker()
    execute(database, "UPDATE workers SET state = 'tripped', last_error = 'storage_unavailable: it is away'")
    until(lambda: "store_down" in told(api, url))
    assert "it is away" in told(api, url)["store_down"]["sentence"]


def test_a_pause_is_told_with_who_did_it(api: Api, make: Make) -> None:
    url, _ = make()
    api.http.post(f"{url}/pause")
    key_id = str(api.http.headers["Authorization"]).split("_")[1]
    assert f"paused by key {key_id} at" in told(api, url)["paused"]["sentence"]
    assert "jobs resume" in told(api, url)["paused"]["next_step"]


def test_what_other_tenants_have_before_them_is_counted_and_nothing_else_of_them(
    api: Api, make: Make, new_worker: NewWorker, new_key: NewKey, database: Database, expand: Expand
) -> None:
    with api.client(new_key("other")) as other:
        other.post("/v1/jobs", json=PREFIX)
    expand(40)
    url, _ = make(3)
    new_worker()
    execute(
        database,
        """UPDATE pages SET state = 'dispatched', batch_id = 1, fence = 1 WHERE id IN (
            SELECT p.id FROM pages p JOIN jobs j ON j.id = p.job_id JOIN tenants t ON t.id = j.tenant_id
            WHERE t.name = 'other' LIMIT 16)""",
    )
    until(lambda: "window_full" in told(api, url))
    full = told(api, url)["window_full"]["sentence"]
    assert full == (
        "3 pages wait for room: the workers hold 16 pages, 16 of them of other tenants."
        " Beside it is 1 other tenant with 40 pages."
    )


def test_jobs_of_ones_own_that_go_first_are_counted(
    api: Api, make: Make, new_worker: NewWorker, database: Database
) -> None:
    make(5)
    url, job = make(3)
    new_worker()
    execute(
        database,
        "UPDATE pages SET state = 'dispatched', batch_id = 1, fence = 1 WHERE job_id <> :job",
        job=job,
    )
    until(lambda: "window_full" in told(api, url))
    assert "5 pages of your own jobs go first" in told(api, url)["window_full"]["sentence"]
    assert "--priority 9" in told(api, url)["window_full"]["next_step"]
    api.http.patch(url, json={"priority": 9})
    assert "go first" not in told(api, url)["window_full"]["sentence"]


def test_pages_that_wait_for_their_next_try_are_told_with_what_they_failed_with(
    api: Api, make: Make, new_worker: NewWorker, database: Database
) -> None:
    url, job = make(3)
    new_worker()
    execute(
        database, "UPDATE pages SET not_before = now() + interval '1 minute' WHERE job_id = :job", job=job
    )
    execute(
        database,
        """INSERT INTO attempts (page_id, fence, attempt, code, detail)
           SELECT id, 1, 1, :code, 'x' FROM pages WHERE job_id = :job ORDER BY id LIMIT 2""",
        job=job,
        code=StorageUnavailable.code,
    )
    sentence = told(api, url)["backing_off"]["sentence"]
    assert sentence.startswith("3 pages wait to be tried again after storage_unavailable (2); the next in ")


def test_a_redrives_rate_is_told_and_not_as_a_backoff(
    api: Api, make: Make, new_worker: NewWorker, database: Database
) -> None:
    url, job = make(3)
    new_worker().settle([job], [CorruptFile("x")] * 3)
    execute(database, "UPDATE outcomes SET code = 'engine_oom' WHERE job_id = :job", job=job)
    answer = api.http.post(f"{url}/retry", json={"filter": {}, "max_per_second": 0.01})
    assert answer.status_code == 202, answer.text
    found = told(api, url)
    assert "dead letters back at 0.01 pages a second; " in found["redrive"]["sentence"]
    assert "backing_off" not in found


def test_dead_letters_are_told_by_code_with_advice(api: Api, make: Make, new_worker: NewWorker) -> None:
    url, job = make(3)
    new_worker().settle([job], [CorruptFile("x")] * 3)
    found = told(api, url)
    assert list(found) == ["finished", "corrupt_file"]
    assert found["corrupt_file"]["sentence"] == "3 pages failed with corrupt_file."
    assert "the file is damaged" in found["corrupt_file"]["next_step"]


def test_an_input_that_nobody_reads_is_told(api: Api, database: Database) -> None:
    url = api.http.post("/v1/jobs", json=PREFIX).headers["Location"]
    assert "expanding" in told(api, url)
    execute(database, "UPDATE jobs SET created_at = now() - interval '1 hour'")
    assert "60 min" in told(api, url)["not_begun"]["sentence"]


def test_a_quota_is_told(start_api: StartApi, database: Database) -> None:
    execute(database, "UPDATE tenants SET jobs_open = 1")
    api = start_api()
    for _ in range(2):
        url = api.http.post("/v1/jobs", json=PREFIX).headers["Location"]
    until(lambda: "quota" in told(api, url))
    assert told(api, url)["quota"]["sentence"].startswith("Your tenant may have 1 unfinished jobs")
    assert api.http.get(url).json()["blocked_on"] == "quota: jobs_open 1"


def test_another_tenants_job_is_not_found(api: Api, make: Make, new_key: NewKey) -> None:
    url, _ = make()
    with api.client(new_key("stranger")) as stranger:
        answer = stranger.get(f"{url}/explain")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
