"""An API that dies after its commit, before it has kept the answer: the request sent again makes no second thing."""

from typing import Any

import pytest
from api_rig import Api
from sqlalchemy import text

from ocrfleet.db import Database

KEY = {"Idempotency-Key": "once"}
JOB: dict[str, Any] = {"input": {"type": "prefix", "bucket": "scans", "prefix": "a/"}}
RULE: dict[str, Any] = {"name": "r", "bucket": "scans", "prefix": "in/", "job": {}}


def rows(database: Database, table: str) -> tuple[int, int]:
    """Of the table, and of acts that were written down."""
    with database.transaction() as session:
        query = f"SELECT (SELECT count(*) FROM {table}), (SELECT count(*) FROM audit)"  # noqa: S608
        return tuple(session.execute(text(query)).one())  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def _everything(api: Api, database: Database) -> None:
    """The caller, whose key is there already, may make tenants too."""
    assert api
    with database.transaction() as session:
        session.execute(text("UPDATE api_keys SET scopes = '{read,submit,operate,admin,fleet}'"))


def forget(database: Database) -> None:
    """What an API leaves that dies before it has kept the answer."""
    with database.transaction() as session:
        session.execute(text("UPDATE idempotency_keys SET status = NULL, body = NULL, claimed_at = NULL"))


@pytest.mark.parametrize(
    ("path", "body", "table"),
    [
        ("/v1/webhooks", {"url": "https://93.184.216.34/hook"}, "webhooks"),
        ("/v1/redrives", {"filter": {"all": True}}, "redrives"),
        ("/v1/bucket-rules", RULE, "bucket_rules"),
        ("/v1/tenants", {"name": "archive"}, "tenants"),
    ],
)
def test_what_was_made_is_found(
    api: Api, database: Database, path: str, body: dict[str, Any], table: str
) -> None:
    first = api.http.post(path, json=body, headers=KEY)
    assert first.status_code in (201, 202), first.text
    made = rows(database, table)
    forget(database)
    again = api.http.post(path, json=body, headers=KEY)
    assert "Idempotency-Replayed" not in again.headers
    assert (again.status_code, again.json()["id"]) == (first.status_code, first.json()["id"])
    assert again.headers["Location"] == first.headers["Location"]
    assert rows(database, table) == made


def test_a_retry_of_a_job_is_found(api: Api, database: Database) -> None:
    job_id = api.http.post("/v1/jobs", json=JOB).json()["id"]
    made = api.http.post(f"/v1/jobs/{job_id}/retry", headers=KEY).json()["id"]
    forget(database)
    assert api.http.post(f"/v1/jobs/{job_id}/retry", headers=KEY).json()["id"] == made
    assert rows(database, "redrives")[0] == 1


def test_the_last_webhook_that_a_tenant_may_have_is_found(api: Api, database: Database) -> None:
    body = {"url": "https://93.184.216.34/hook"}
    first = api.http.post("/v1/webhooks", json=body, headers=KEY).json()
    with database.transaction() as session:
        query = """
            INSERT INTO webhooks (id, tenant_id, url, secret)
            SELECT gen_random_uuid(), tenant_id, url, 's' FROM webhooks, generate_series(1, 49)"""
        session.execute(text(query))
    forget(database)
    assert api.http.post("/v1/webhooks", json=body, headers=KEY).json()["id"] == first["id"]


@pytest.mark.parametrize(
    ("path", "table", "secret"),
    [("/v1/api-keys", "api_keys", "key"), ("/v1/event-sources", "event_sources", "token")],
)
def test_a_secret_whose_hash_alone_is_known_is_not_shown_again(
    api: Api, database: Database, path: str, table: str, secret: str
) -> None:
    body = {"name": "once"}
    assert api.http.post(path, json=body, headers=KEY).json()[secret]
    made = rows(database, table)
    forget(database)
    again = api.http.post(path, json=body, headers=KEY)
    assert (again.status_code, again.json()["code"]) == (409, "answer_not_kept")
    assert rows(database, table) == made
