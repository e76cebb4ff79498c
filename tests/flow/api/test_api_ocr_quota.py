"""An image that would wait for tomorrow's quota is refused today, and no tenant keeps the others' images out."""

import base64
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from api_rig import Api, NewKey, NewWorker, StartApi, until
from fleet_builders import sql

from api.app import create_app
from api.caches import Liveness
from api.quota import check_day
from ocrfleet import blobs
from ocrfleet.client import ApiError, Client
from ocrfleet.db import Database
from ocrfleet.errors import RateLimited
from ocrfleet.settings import Settings
from ocrfleet.store import control, tenants
from ocrfleet.store.quotas import Blocked, Day

IMAGE = b"\x89PNG but never decoded here"
JSON = {"image": base64.b64encode(IMAGE).decode()}
SPEND = """
    INSERT INTO usage (job_id, day, tenant_id, pages, bytes)
    SELECT gen_random_uuid(), CAST(now() AT TIME ZONE 'UTC' AS date), id, 3, 70 FROM tenants WHERE name = 'default'"""


def spend(database: Database, **limits: int) -> None:
    with database.transaction() as session:
        tenants.change(session, tenants.named(session, tenants.DEFAULT), limits)
    sql(database, SPEND)


def seconds_left() -> float:
    now = datetime.now(UTC)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    return (midnight - now).total_seconds()


@pytest.mark.parametrize(("quota", "actual"), [("pages_per_day", 3), ("bytes_per_day", 70)])
def test_over_the_quota_of_the_day_it_is_refused_at_once_and_no_job_is_made(
    api: Api, database: Database, new_worker: NewWorker, new_key: NewKey, quota: str, actual: int
) -> None:
    new_worker()
    spend(database, **{quota: actual - 1})
    for headers in ({}, {"Prefer": "wait=1"}, {"Prefer": "respond-async"}):
        answer = api.http.post("/v1/ocr", json=JSON, headers=headers)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (429, "rate_limited"), problem
        assert (problem["quota"], problem["limit"], problem["actual"]) == (quota, actual - 1, actual)
        assert f"{quota} is {actual - 1}, and {actual} are used" in problem["detail"]
        assert seconds_left() - 30 < int(answer.headers["Retry-After"]) < seconds_left() + 30
        assert problem["retry_after"] == int(answer.headers["Retry-After"])
    key = api.http.headers["Authorization"].removeprefix("Bearer ")
    with Client(api.url, key) as client, pytest.raises(ApiError, match="rate_limited"):
        client.recognize(IMAGE)  # without a wait for another try
    assert sql(database, "SELECT 1 FROM jobs") == []
    with api.client(new_key("other")) as other:
        assert other.post("/v1/ocr", json=JSON).status_code == 503, "their page is put: the store is nowhere"


@pytest.fixture
def serve(start_api: StartApi, s3: Settings) -> StartApi:
    """Starts an API on the real store."""
    blobs.connect(s3).ensure_bucket(s3.bucket)
    keys = s3.model_dump(include={"store_url", "store_access_key", "store_secret_key"})
    return lambda **settings: start_api(**keys, **settings)


def test_a_new_day_lets_everybody_in(serve: StartApi, database: Database, new_worker: NewWorker) -> None:
    api, worker = serve(), new_worker()
    spend(database, pages_per_day=3)
    assert api.http.post("/v1/ocr", json=JSON).status_code == 429
    sql(database, "UPDATE usage SET day = day - 1")
    worker.serve({"text": "hello"})
    until(lambda: api.http.post("/v1/ocr", json=JSON).status_code == 200)


ASYNC = {"Prefer": "respond-async"}


def test_a_tenant_has_its_share_of_the_window_and_leaves_the_rest_to_others(
    serve: StartApi, database: Database, new_worker: NewWorker, new_key: NewKey
) -> None:
    new_worker()
    api = serve(interactive_window=4, interactive_share=0.5)

    def ask(http: httpx.Client) -> httpx.Response:
        return http.post("/v1/ocr", json=JSON, headers=ASYNC)

    assert [ask(api.http).status_code for _ in range(3)] == [202] * 3, "alone it has all of it"
    with api.client(new_key("other")) as other, api.client(new_key("third")) as third:
        full = ask(api.http)
        assert (full.status_code, full.json()["code"]) == (503, "no_capacity")
        assert (full.json()["limit"], full.json()["actual"]) == (2, 3)
        assert "Your tenant" in full.json()["detail"]
        assert ask(other).status_code == 202, "nobody else is refused for it"
        nobody = ask(third)
        assert (nobody.status_code, nobody.json()["limit"], nobody.json()["actual"]) == (503, 4, 4)
        sql(database, "UPDATE jobs SET state = 'canceled', finished_at = now()")
        assert [ask(other).status_code for _ in range(3)] == [202, 202, 503]


def test_a_page_that_nobody_waits_for_has_a_deadline_too(
    serve: StartApi, database: Database, new_worker: NewWorker
) -> None:
    new_worker()
    job = serve(async_wait=90.0).http.post("/v1/ocr", json=JSON, headers=ASYNC).json()
    left = datetime.fromisoformat(job["deadline"]) - datetime.now(UTC)
    assert timedelta(seconds=30) < left <= timedelta(seconds=90)
    sql(database, "UPDATE jobs SET deadline = now()")
    with database.transaction() as session:
        assert control.expire(session)
    assert [row.state for row in sql(database, "SELECT state FROM jobs")] == ["canceled"]


def test_a_page_is_neither_paused_nor_does_it_lose_its_deadline(
    serve: StartApi, new_worker: NewWorker
) -> None:
    new_worker()
    api = serve()
    url = api.http.post("/v1/ocr", json=JSON, headers=ASYNC).headers["Location"]
    before = api.http.get(url).json()
    for refused in (api.http.post(f"{url}/pause"), api.http.patch(url, json={"deadline": None})):
        assert (refused.status_code, refused.json()["code"]) == (409, "job_state_conflict")
    assert api.http.get(url).json() == before
    assert api.http.patch(url, json={"priority": 3}).json()["priority"] == 3
    assert api.http.post(f"{url}/cancel").status_code == 202


def test_what_was_known_before_midnight_refuses_nobody_after_it() -> None:
    now, tenant = datetime.now(UTC), uuid4()

    def live(resets_at: datetime) -> Liveness:
        day = Day("pages_per_day", 3, 3, resets_at)
        return Liveness(1, frozenset(), {}, {tenant: Blocked(day, None, None)})

    with pytest.raises(RateLimited) as caught:
        check_day(live(now + timedelta(seconds=30)), tenant)
    assert 25 <= caught.value.extra["retry_after"] <= 30
    check_day(live(now), tenant)
    check_day(live(now + timedelta(hours=1)), UUID(int=0))
    check_day(Liveness(1, frozenset(), {}, {tenant: Blocked(None, 1, (now, tenant))}), tenant)


def test_the_document_says_so() -> None:
    document = create_app(Settings()).openapi()
    answer = document["paths"]["/v1/ocr"]["post"]["responses"]["429"]
    assert "quota" in answer["description"]
    assert answer["headers"]["Retry-After"]["schema"] == {"type": "integer"}
