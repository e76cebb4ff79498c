"""What an answer shows once is kept by nobody on its way; and a key that has ended hears so, if it was the right one."""

from typing import Any

import pytest
from api_rig import Api, until
from fleet_builders import sql

from ocrfleet.advice import ANOTHER_KEY
from ocrfleet.client import ApiError, Client
from ocrfleet.db import Database
from ocrfleet.store import tenants
from ocrfleet.store.tenants import Scope

MAKE: dict[str, dict[str, Any]] = {
    "/v1/api-keys": {"name": "x"},
    "/v1/webhooks": {"url": "https://93.184.215.14/hook"},
    "/v1/event-sources": {"name": "minio"},
}


@pytest.mark.parametrize("path", MAKE)
def test_an_answer_with_a_secret_is_not_to_be_stored(api: Api, path: str) -> None:
    made = api.http.post(path, json=MAKE[path])
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store"), made.text


def test_nor_is_one_with_a_new_secret(api: Api) -> None:
    made = api.http.post("/v1/webhooks", json=MAKE["/v1/webhooks"]).json()
    rotated = api.http.post(f"/v1/webhooks/{made['id']}/rotate-secret")
    assert (rotated.status_code, rotated.headers["Cache-Control"]) == (200, "no-store")
    assert rotated.json()["secret"] != made["secret"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "UPDATE api_keys SET expires_at = '2020-01-02' WHERE id = :id RETURNING 1",
            "The key expired on 2020-01-02.",
        ),
        (
            "UPDATE api_keys SET revoked_at = '2020-01-02' WHERE id = :id RETURNING 1",
            "The key was revoked on 2020-01-02.",
        ),
    ],
)
def test_a_key_that_has_ended_is_told_so(api: Api, database: Database, change: str, told: str) -> None:
    with database.transaction() as session:
        key = tenants.create_key(session, scopes=tuple(Scope))
    with api.client(key) as http:
        assert http.get("/v1/jobs").status_code == 200
        sql(database, change, id=key.split("_")[1])
        until(lambda: http.get("/v1/jobs").status_code == 401)
    for headers in ({}, {"Idempotency-Key": "k"}):
        with api.client(key) as http:
            answer = http.post("/v1/jobs", json={}, headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        problem = answer.json()
        assert (problem["code"], problem["detail"], problem["next_step"]) == (
            "unauthenticated",
            told,
            ANOTHER_KEY,
        )
    with api.client(f"{key[:-1]}{'0' if key[-1] != '0' else '1'}") as http:
        guessed = http.get("/v1/jobs").json()
    with api.client("ocrk_000000000000_0") as http:
        unknown = http.get("/v1/jobs").json()
    assert guessed | {"request_id": ""} == unknown | {"request_id": ""}, "who guesses learns nothing"
    with Client(api.url, key, attempts=1) as client, pytest.raises(ApiError, match=told) as caught:
        client.job("x")
    assert caught.value.next_step == ANOTHER_KEY
