"""Keys, tenants, quotas, usage, rates and the audit, as callers see them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from api_rig import NOWHERE, Api, Expand, NewWorker, StartApi, until
from sqlalchemy import text

from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile
from ocrfleet.store import tenants
from ocrfleet.store.tenants import Scope

JOB = {"input": {"type": "prefix", "prefix": ""}}


@pytest.fixture
def master(api: Api, database: Database) -> Api:
    """The API, asked with a key that may do everything."""
    with database.transaction() as session:
        key = tenants.create_key(session, scopes=tuple(Scope))
    api.http.headers["Authorization"] = f"Bearer {key}"
    return api


def scalar(database: Database, query: str) -> Any:  # noqa: ANN401
    with database.transaction() as session:
        return session.execute(text(query)).scalar_one()


def limit(database: Database, **limits: int | None) -> None:
    with database.transaction() as session:
        tenants.change(session, tenants.named(session, tenants.DEFAULT), limits)


def test_a_keys_secret_is_shown_once_and_it_is_refused_when_it_is_revoked(master: Api) -> None:
    made = master.http.post("/v1/api-keys", json={"name": "import", "scopes": ["read"]})
    key = made.json()
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    assert (key["scopes"], key["name"], key["last_used_at"]) == (["read"], "import", None)
    seen = master.http.get(made.headers["Location"])
    assert seen.json() == {name: value for name, value in key.items() if name != "key"}
    secret = key["key"].rpartition("_")[2]
    assert secret not in seen.text + master.http.get("/v1/api-keys").text + master.http.get("/v1/audit").text
    with master.client(key["key"]) as http:
        assert http.get("/v1/jobs").status_code == 200
        until(lambda: master.http.get(made.headers["Location"]).json()["last_used_at"])
        revoked = master.http.delete(made.headers["Location"])
        assert (revoked.status_code, bool(revoked.json()["revoked_at"])) == (200, True)
        assert master.http.delete(made.headers["Location"]).json() == revoked.json() | {
            "last_used_at": master.http.get(made.headers["Location"]).json()["last_used_at"]
        }
        until(lambda: http.get("/v1/jobs").status_code == 401)


def test_a_key_gives_on_no_more_than_it_has(api: Api, database: Database) -> None:
    with database.transaction() as session:
        key = tenants.create_key(session, scopes=(Scope.ADMIN, Scope.READ))
        other = tenants.create(session, "other")
    with api.client(key) as http:
        usual = http.post("/v1/api-keys", json={"name": "x"})
        assert usual.json()["scopes"] == ["read"], "the default is what the caller has of it"
        more = http.post("/v1/api-keys", json={"name": "x", "scopes": ["read", "submit"]})
        assert (more.status_code, more.json()["needed"]) == (403, ["submit"])
        theirs = http.post("/v1/api-keys", json={"name": "x", "scopes": ["read"], "tenant_id": str(other)})
        assert (theirs.status_code, theirs.json()["needed"]) == (403, ["fleet"])


def test_a_key_gives_none_on_that_outlives_it(api: Api, database: Database) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    with database.transaction() as session:
        key = tenants.create_key(session, scopes=tuple(Scope), expires_at=end)
        other = tenants.create(session, "other")

    def told(answer: httpx.Response) -> datetime:
        assert answer.status_code == 201, answer.text
        return datetime.fromisoformat(answer.json()["expires_at"])

    with api.client(key) as http:
        earlier, later = end - timedelta(days=1), end + timedelta(seconds=1)
        for of in ({}, {"tenant_id": str(other)}):
            asked = {"name": "x", "scopes": ["read"], **of}
            for body in (asked, asked | {"expires_at": None}, asked | {"expires_at": end.isoformat()}):
                assert told(http.post("/v1/api-keys", json=body)) == end
            sooner = http.post("/v1/api-keys", json=asked | {"expires_at": earlier.isoformat()})
            assert told(sooner) == earlier
            refused = http.post("/v1/api-keys", json=asked | {"expires_at": later.isoformat()})
            problem = refused.json()
            assert (refused.status_code, problem["code"]) == (403, "forbidden")
            dates = [datetime.fromisoformat(problem[name]) for name in ("limit", "actual")]
            assert dates == [end, later]
    free = api.http.post("/v1/api-keys", json={"name": "x", "expires_at": later.isoformat()})
    assert told(free) == later, "a key without an end gives any"
    assert api.http.post("/v1/api-keys", json={"name": "x"}).json()["expires_at"] is None


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "scopes": []},
        {"name": "x", "expires_at": "2020-01-01T00:00:00Z"},
        {"name": "x", "expires_at": "2999-01-01T00:00:00"},
        {"name": "x", "secret": "mine"},
    ],
)
def test_a_key_that_cannot_be_made_is_refused(strict: Api, body: dict[str, Any]) -> None:
    answer = strict.http.post("/v1/api-keys", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")


def test_keys_are_listed_page_by_page(master: Api) -> None:
    for n in range(3):
        master.http.post("/v1/api-keys", json={"name": f"k{n}"})
    first = master.http.get("/v1/api-keys", params={"page_size": 2}).json()
    rest = master.http.get("/v1/api-keys", params={"page_token": first["next_page_token"]}).json()
    assert [key["name"] for key in first["data"]] == ["k2", "k1"]
    assert rest["data"][0]["name"] == "k0"
    assert rest["next_page_token"] is None


def test_a_tenant_is_made_gets_a_key_and_is_changed(master: Api) -> None:
    made = master.http.post("/v1/tenants", json={"name": "archive", "weight": 2, "pages_per_day": 10})
    tenant = made.json()
    assert (made.status_code, tenant["weight"], tenant["pages_per_day"]) == (201, 2.0, 10)
    assert master.http.post("/v1/tenants", json={"name": "archive"}).status_code == 409
    key = master.http.post("/v1/api-keys", json={"name": "x", "tenant_id": tenant["id"]}).json()
    with master.client(key["key"]) as http:
        assert http.get("/v1/quota").json()["pages_per_day"]["left"] == 10
    changed = master.http.patch(made.headers["Location"], json={"pages_per_day": None, "jobs_open": 3})
    assert changed.json() == tenant | {"pages_per_day": None, "jobs_open": 3}
    assert master.http.get(made.headers["Location"]).json() == changed.json()
    first = master.http.get("/v1/tenants", params={"page_size": 1}).json()
    rest = master.http.get("/v1/tenants", params={"page_token": first["next_page_token"]}).json()
    assert [row["name"] for row in (*first["data"], *rest["data"])] == ["archive", "default"]
    assert master.http.patch(f"/v1/tenants/{uuid4()}", json={"weight": 1}).status_code == 404
    assert master.http.get(f"/v1/tenants/{uuid4()}").status_code == 404
    for body in ({"weight": 0}, {"weight": None}, {"jobs_open": 0}, {"pages_per_day": -1}, {"name": "b"}):
        assert master.http.patch(made.headers["Location"], json=body).status_code == 422, body


def test_acts_are_listed_newest_first_and_chosen(master: Api, database: Database) -> None:
    job = master.http.post("/v1/jobs", json=JOB).json()["id"]
    before = datetime.now(UTC)
    master.http.post(f"/v1/jobs/{job}/pause")
    made = master.http.post("/v1/api-keys", json={"name": "x"}).json()
    master.http.delete(f"/v1/api-keys/{made['id']}")

    def acts(**params: Any) -> list[tuple[str, str]]:
        rows = master.http.get("/v1/audit", params=params).json()["data"]
        return [(row["act"], row["subject"]) for row in rows]

    mine = [("keys.revoke", f"key:{made['id']}"), ("keys.create", f"key:{made['id']}")]
    assert acts()[:2] == mine
    assert acts(subject=f"key:{made['id']}") == mine
    assert acts(act="keys.create") == mine[1:]
    assert acts(actor="nobody") == []
    assert len(acts(since=before.isoformat())) == 3
    assert acts(since=(before + timedelta(days=1)).isoformat()) == []
    first = master.http.get("/v1/audit", params={"page_size": 1}).json()
    rest = master.http.get("/v1/audit", params={"page_token": first["next_page_token"]}).json()
    assert [row["act"] for row in rest["data"]][:1] == ["keys.create"]
    assert master.http.get("/v1/audit", params={"subject": "\0"}).status_code == 422
    assert scalar(database, "SELECT count(DISTINCT actor) FROM audit") == 1


def settle(api: Api, expand: Expand, worker: Any, results: list[Any]) -> str:  # noqa: ANN401
    job = api.http.post("/v1/jobs", json=JOB).json()["id"]
    job_id = expand(len(results))
    worker.settle([job_id], results)
    return job


def test_usage_is_summed_and_priced(
    start_api: StartApi, database: Database, new_worker: NewWorker, expand: Expand
) -> None:
    api = start_api(price_per_1000_pages=2.0, price_per_million_tokens=10.0)
    first = settle(api, expand, new_worker(), [{"text": "a"}, {"text": "b"}, CorruptFile()])
    second = settle(api, expand, new_worker(), [{"text": "c"}])
    with database.transaction() as session:
        session.execute(text("UPDATE usage SET prompt_tokens = 1000 WHERE pages = 1"))
    by_job = api.http.get("/v1/usage", params={"group_by": "job", "page_size": 1}).json()
    rest = api.http.get(
        "/v1/usage", params={"group_by": "job", "page_token": by_job["next_page_token"]}
    ).json()
    rows = {row["job_id"]: row for row in (*by_job["data"], *rest["data"])}
    assert set(rows) == {first, second}
    assert (rows[first]["pages"], rows[first]["dead"], rows[first]["cost"]) == (3, 1, 0.004)
    assert (rows[second]["pages"], rows[second]["cost"]) == (1, 0.012)
    assert (by_job["total"]["pages"], by_job["total"]["cost"]) == (4, 0.016)
    (day,) = api.http.get("/v1/usage").json()["data"]
    assert (day["pages"], day["job_id"]) == (4, None)
    with database.transaction() as session:
        session.execute(text("UPDATE usage SET interactive = true WHERE pages = 1"))
    one, many = api.http.get("/v1/usage", params={"group_by": "job"}).json()["data"]
    assert [(row["job_id"], row["pages"]) for row in (one, many)] == [(None, 1), (first, 3)]
    far = {"from": "2001-01-01", "to": "2001-01-31"}
    assert api.http.get("/v1/usage", params=far).json()["data"] == []
    for bad in ({"from": "2001-02-01", "to": "2001-01-31"}, {"from": "1990-01-01"}, {"group_by": "page"}):
        assert api.http.get("/v1/usage", params=bad).status_code == 422, bad


def test_the_quota_says_what_is_left_and_a_job_over_it_says_so(
    api: Api, database: Database, new_worker: NewWorker, expand: Expand
) -> None:
    limit(database, pages_per_day=2, jobs_open=2)
    first = settle(api, expand, new_worker(), [{"text": "a"}, {"text": "b"}])
    second, third, fourth = (api.http.post("/v1/jobs", json=JOB).json()["id"] for _ in range(3))
    assert expand(3)

    def blocked(job: str) -> str | None:
        return api.http.get(f"/v1/jobs/{job}").json()["blocked_on"]

    until(lambda: blocked(second) == "quota: pages_per_day 2")
    until(lambda: blocked(fourth) == "quota: jobs_open 2")
    assert blocked(third) is None
    assert blocked(first) is None
    quota = api.http.get("/v1/quota").json()
    midnight = datetime.fromisoformat(quota["pages_per_day"]["resets_at"])
    assert timedelta(0) < midnight - datetime.now(UTC) <= timedelta(days=1)
    assert (midnight.hour, midnight.minute) == (0, 0)
    assert quota["pages_per_day"] | {"resets_at": None} == {
        "limit": 2,
        "used": 2,
        "left": 0,
        "resets_at": None,
    }
    assert quota["jobs_open"] == {"limit": 2, "used": 3, "left": 0, "resets_at": None}
    assert (quota["bytes_per_day"]["limit"], quota["bytes_per_day"]["left"]) == (None, None)
    assert quota["requests_per_minute"] == {"limit": None, "used": None, "left": None, "resets_at": None}


HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit", "RateLimit-Policy")


def test_a_limited_tenant_is_told_its_rate_on_every_answer_and_refused_above_it(
    api: Api, database: Database, new_key: Callable[[str], str]
) -> None:
    limit(database, requests_per_minute=4)
    paths = ("/v1/jobs", f"/v1/jobs/{uuid4()}", "/v1/quota", "/v1/jobs?page_size=0")
    answers = [api.http.get(path) for path in paths]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 422]
    assert [answer.headers["RateLimit-Remaining"] for answer in answers] == ["3", "2", "1", "0"]
    assert {answer.headers["RateLimit-Limit"] for answer in answers} == {"4"}
    assert answers[2].json()["requests_per_minute"]["left"] == 1
    refused = api.http.get("/v1/jobs")
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["limit"], problem["actual"]) == (
        429,
        "rate_limited",
        4,
        5,
    )
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit-Reset"] == refused.headers["Retry-After"]
    assert refused.headers["RateLimit-Policy"] == '"tenant";q=4;w=60'
    with api.client(new_key("other")) as http:
        free = http.get("/v1/jobs")
    assert free.status_code == 200
    assert not [name for name in HEADERS if name in free.headers]


def test_without_the_broker_nobody_is_refused(start_api: StartApi, database: Database) -> None:
    api = start_api(broker_url=f"redis://{NOWHERE}/0")
    limit(database, requests_per_minute=1)
    assert {api.http.get("/v1/jobs").status_code for _ in range(3)} == {200}
