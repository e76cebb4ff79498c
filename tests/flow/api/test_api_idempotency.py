"""Idempotency-Key: what is sent again is not done again, whoever dies in between."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from api_rig import Api, NewKey, StartApi
from sqlalchemy import text

from api.idempotency import _Digest, takes_key
from ocrfleet.db import Database
from ocrfleet.settings import Settings
from ocrfleet.store import idempotency, jobs, tenants
from ocrfleet.store.idempotency import Claim, Kept

BODY: dict[str, Any] = {"input": {"type": "prefix", "bucket": "scans", "prefix": "a/"}}
KEY = {"Idempotency-Key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}


def count(database: Database, table: str) -> int:
    with database.transaction() as session:
        return session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608


def tenant_of(database: Database) -> UUID:
    with database.transaction() as session:
        return session.execute(text("SELECT id FROM tenants WHERE name = 'default'")).scalar_one()


def grow_stale(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE idempotency_keys SET claimed_at = now() - interval '61 s'"))


def test_the_same_request_again_gets_the_same_answer_and_makes_nothing(api: Api, database: Database) -> None:
    first, again = (api.http.post("/v1/jobs", json=BODY, headers=KEY) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert first.headers["Location"] == again.headers["Location"]
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.headers["X-Request-Id"] != again.headers["X-Request-Id"]
    assert count(database, "jobs") == 1
    quoted = {"Idempotency-Key": f'"{KEY["Idempotency-Key"]}"'}
    assert api.http.post("/v1/jobs", json=BODY, headers=quoted).json() == first.json()
    # Without a key, or with another one, it is another request.
    assert api.http.post("/v1/jobs", json=BODY).json()["id"] != first.json()["id"]


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/jobs", BODY | {"priority": 1}), ("/v1/redrives", BODY), ("/v1/jobs?x=1", BODY)]
)
def test_the_key_with_another_request_is_refused(
    api: Api, database: Database, path: str, body: dict[str, Any]
) -> None:
    api.http.post("/v1/jobs", json=BODY, headers=KEY)
    answer = api.http.post(path, json=body, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert count(database, "jobs") == 1


def test_of_many_at_once_one_is_carried_out(api: Api, database: Database) -> None:
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: api.http.post("/v1/jobs", json=BODY, headers=KEY), range(24)))
    assert count(database, "jobs") == 1
    made = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert len(made) == 1
    for answer in answers:
        if answer.status_code != 202:
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_flight")
            assert int(answer.headers["Retry-After"]) > 0


def test_while_the_first_is_being_answered_the_second_waits(api: Api, database: Database) -> None:
    first = api.http.post("/v1/jobs", json=BODY, headers=KEY).json()["id"]
    with database.transaction() as session:
        session.execute(text("UPDATE idempotency_keys SET status = NULL, body = NULL"))
    answer = api.http.post("/v1/jobs", json=BODY, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_in_flight")
    assert answer.headers["Retry-After"] == "1"
    # Its process died after its commit: the claim is taken over, and finds the job that is there.
    grow_stale(database)
    taken_over = api.http.post("/v1/jobs", json=BODY, headers=KEY)
    assert (taken_over.status_code, taken_over.json()["id"]) == (202, first)
    assert "Idempotency-Replayed" not in taken_over.headers
    assert count(database, "jobs") == 1


def test_a_claim_whose_process_died_before_its_commit_is_carried_out(api: Api, database: Database) -> None:
    api.http.post("/v1/jobs", json=BODY, headers=KEY)
    with database.transaction() as session:
        session.execute(text("UPDATE idempotency_keys SET status = NULL, body = NULL"))
        session.execute(text("DELETE FROM jobs"))
    grow_stale(database)
    assert api.http.post("/v1/jobs", json=BODY, headers=KEY).status_code == 202
    assert count(database, "jobs") == 1


def test_refusals_are_kept_and_failures_are_not(
    start_api: StartApi, s3: Settings, database: Database
) -> None:
    broken = start_api()
    bad = {"input": {"type": "prefix"}}
    first, again = (broken.http.post("/v1/jobs", json=bad, headers=KEY) for _ in range(2))
    assert (first.status_code, again.status_code) == (422, 422)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json()["errors"] == again.json()["errors"]
    # Its store is nowhere; that of the next one is there.
    form: dict[str, Any] = {"files": {"file": ("a.jsonl", b"{}")}, "data": {"purpose": "batch"}}
    key = {"Idempotency-Key": "files"}
    assert broken.http.post("/v1/files", headers=key, **form).status_code == 503
    store = s3.model_dump(include={"store_url", "store_access_key", "store_secret_key"})
    healed = start_api(**store)
    made = healed.http.post("/v1/files", headers=key, **form)
    assert made.status_code == 200
    assert "Idempotency-Replayed" not in made.headers
    # A form is the same request although its boundary is another.
    again = healed.http.post("/v1/files", headers=key, **form)
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (made.json(), "true")
    assert count(database, "files") == 1


def test_a_secret_is_not_kept(api: Api, database: Database) -> None:
    made = api.http.post("/v1/api-keys", json={"name": "k"}, headers=KEY)
    assert made.status_code == 201
    with database.transaction() as session:
        kept = session.execute(text("SELECT status, body, CAST(headers AS text) FROM idempotency_keys")).one()
    assert kept[:2] == (201, None)
    assert made.json()["key"].rpartition("_")[2] not in kept[2]
    again = api.http.post("/v1/api-keys", json={"name": "k"}, headers=KEY)
    assert (again.status_code, again.json()["code"]) == (409, "answer_not_kept")
    assert made.headers["Location"] in again.json()["detail"]


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", '""', '" "'])
def test_a_key_is_printable_and_not_too_long(strict: Api, key: str) -> None:
    headers = {"Idempotency-Key": key.encode()}
    answer = strict.http.post("/v1/jobs", json=BODY, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "header:Idempotency-Key")


def test_tenants_do_not_share_keys_and_strangers_have_none(
    api: Api, new_key: NewKey, database: Database
) -> None:
    mine = api.http.post("/v1/jobs", json=BODY, headers=KEY)
    with api.client(new_key("other")) as other, api.client("ocrk_0_0") as stranger:
        theirs = other.post("/v1/jobs", json=BODY, headers=KEY)
        assert stranger.post("/v1/jobs", json=BODY, headers=KEY).status_code == 401
    assert theirs.status_code == 202
    assert theirs.json()["id"] != mine.json()["id"]
    assert count(database, "idempotency_keys") == 2


def test_a_key_of_fewer_scopes_sees_no_kept_answer(api: Api) -> None:
    api.http.post("/v1/jobs", json=BODY, headers=KEY)
    key = api.http.post("/v1/api-keys", json={"name": "submits", "scopes": ["submit"]}).json()["key"]
    with api.client(key) as submitter:
        assert submitter.post("/v1/jobs", json=BODY, headers=KEY).status_code == 422


def test_a_body_over_the_limit_is_refused_with_a_key_too(strict: Api) -> None:
    pieces: Iterator[bytes] = iter([b" " * 60_000] * 3)
    headers = KEY | {"Content-Type": "application/json"}
    assert strict.http.post("/v1/jobs", content=pieces, headers=headers).status_code == 413


def test_what_takes_a_key() -> None:
    assert takes_key("POST", "/v1/jobs")
    assert takes_key("POST", "/v1/jobs/1/retry")
    assert not takes_key("POST", "/v1/ocr")
    assert not takes_key("POST", "/v1/bucket-events/a")
    assert not takes_key("GET", "/v1/jobs")


def test_a_digest_leaves_boundaries_out_wherever_a_chunk_ends() -> None:
    def digest(boundary: bytes, content: bytes, size: int) -> bytes:
        made = _Digest(f"multipart/form-data; boundary={boundary.decode()}", "POST")
        body = b"--" + boundary + b"\r\n" + content + b"\r\n--" + boundary + b"--"
        for start in range(0, len(body), size):
            made.update(body[start : start + size])
        return made.end()

    digests = {
        digest(boundary, b"abc" * 50, size) for boundary in (b"x7Yq", b"q0Zz") for size in (1, 3, 7, 999)
    }
    assert len(digests) == 1
    assert digest(b"x7Yq", b"abd" * 50, 7) not in digests


def claimed(database: Database, key: str, request: bytes) -> Claim | Kept:
    with database.transaction() as session:
        return idempotency.claim(session, tenant_of(database), key, request)


def test_a_claim_lives_as_long_as_it_is_renewed_and_is_given_back_at_once(database: Database) -> None:
    held = claimed(database, "k", b"1")
    assert isinstance(held, Claim)
    grow_stale(database)
    with database.transaction() as session:
        idempotency.renew(session, held)
    assert isinstance(claimed(database, "k", b"1"), Kept)
    with database.transaction() as session:
        idempotency.give_back(session, held, made_nothing=False)
    assert isinstance(claimed(database, "k", b"2"), Kept), "another request must not take a claim over"
    assert claimed(database, "k", b"1") == held


def give_back(database: Database, held: Claim) -> None:
    with database.transaction() as session:
        idempotency.give_back(session, held, made_nothing=True)


def test_what_is_refused_leaves_no_row(database: Database) -> None:
    held = claimed(database, "k", b"1")
    assert isinstance(held, Claim)
    give_back(database, held)
    assert count(database, "idempotency_keys") == 0
    assert isinstance(claimed(database, "k", b"2"), Claim)


def test_what_somebody_else_may_have_made_stays_findable_when_it_is_refused(database: Database) -> None:
    held = claimed(database, "k", b"1")
    assert isinstance(held, Claim)
    grow_stale(database)
    # Another takes it over; the first one is refused in the end, while the other is at work.
    assert claimed(database, "k", b"1") == held
    give_back(database, held)
    assert claimed(database, "k", b"1") == held, "with the same id for what it makes"
    # The first failed, perhaps after its commit; the second is refused.
    with database.transaction() as session:
        idempotency.give_back(session, held, made_nothing=False)
    assert claimed(database, "k", b"1") == held
    give_back(database, held)
    assert claimed(database, "k", b"1") == held


def test_who_may_not_or_asks_too_often_leaves_nothing(api: Api, database: Database) -> None:
    made = api.http.post("/v1/api-keys", json={"name": "reader", "scopes": ["read"]}).json()["key"]
    with api.client(made) as reader:
        assert reader.post("/v1/jobs", json=BODY, headers=KEY).status_code == 403
    # The handler's own refusal: nobody gives on what his key has not.
    wide = {"name": "x", "scopes": ["fleet"]}
    assert api.http.post("/v1/api-keys", json=wide, headers=KEY).status_code == 403
    with database.transaction() as session:
        tenants.change(session, tenant_of(database), {"requests_per_minute": 1})
        key = tenants.create_key(session)
    with api.client(key) as other:
        assert [other.post("/v1/jobs", json=BODY, headers=KEY).status_code for _ in range(2)] == [202, 429]
    assert count(database, "idempotency_keys") == 1


def test_after_a_day_a_key_is_new_and_after_two_it_is_swept(database: Database) -> None:
    held = claimed(database, "k", b"1")
    assert isinstance(held, Claim)
    with database.transaction() as session:
        idempotency.keep(session, held, 202, {}, b"{}")
        session.execute(text("UPDATE idempotency_keys SET created_at = now() - interval '25 h'"))
        assert idempotency.sweep(session) == 0
    again = claimed(database, "k", b"2")
    assert isinstance(again, Claim)
    assert again.resource_id != held.resource_id, "what the old request made is not what this one makes"
    with database.transaction() as session:
        session.execute(text("UPDATE idempotency_keys SET created_at = now() - interval '49 h'"))
        assert idempotency.sweep(session) == 1


def test_a_job_of_an_id_that_is_there_is_left_as_it_is(database: Database) -> None:
    new = jobs.NewJob(UUID(int=7), tenant_of(database), "text", BODY["input"], priority=3)
    with database.transaction() as session:
        jobs.create(session, new)
        jobs.create(session, new)
        row = jobs.get(session, new.tenant_id, new.id)
    assert row is not None
    assert (row["priority"], count(database, "jobs")) == (3, 1)
