"""Redrives over HTTP: dead letters run again, at a rate, with other options."""

from typing import Any, get_type_hints
from uuid import UUID

import pytest
from api_rig import Api, Expand, NewWorker
from fleet_builders import sql
from letters_rig import TEXT, Runs, listed
from pydantic import BaseModel

from api import letter_answers as answers
from api import letters, redrives
from ocrfleet import api_types
from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile, EncryptedPdf
from ocrfleet.store.letters import LetterFilter


@pytest.fixture
def run(api: Api, expand: Expand, new_worker: NewWorker) -> Runs:
    return Runs(api, expand, new_worker("text"))


def test_a_redrive_brings_back_what_its_filter_meets_and_tells_how_far_it_is(api: Api, run: Runs) -> None:
    job_id, other = run(TEXT, CorruptFile(), EncryptedPdf()), run(CorruptFile())
    body = {"filter": {"codes": ["corrupt_file"]}, "max_per_second": 1000, "reason": "mended"}
    answer = api.http.post("/v1/redrives", json=body)
    made = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/redrives/{made['id']}")
    assert (made["pages"], made["remaining"], made["left_out"]) == (2, 0, {})
    assert made["progress"] == {"ready": 2, "running": 0, "succeeded": 0, "dead": 0, "canceled": 0}
    assert (made["filter"], made["reason"], made["max_per_second"]) == (
        {"codes": ["corrupt_file"]},
        "mended",
        1000,
    )
    assert made["finished_at"]
    run.again(job_id, TEXT)
    run.again(other, CorruptFile())
    told = api.http.get(answer.headers["Location"]).json()
    assert told["progress"] == {"ready": 0, "running": 0, "succeeded": 1, "dead": 1, "canceled": 0}
    assert told["remaining"] == 0
    job = api.http.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["generation"], job["errors"]) == ("completed", 2, {"encrypted_pdf": 1})
    assert len(listed(api)) == 2


def test_a_dry_run_counts_and_moves_nothing(api: Api, run: Runs, database: Database) -> None:
    job_id, canceled = run(CorruptFile(), CorruptFile(), EncryptedPdf()), run(CorruptFile())
    sql(database, "UPDATE jobs SET state = 'canceled' WHERE id = :job", job=canceled)
    body = {"filter": {"all": True}, "max_per_second": 2, "validate_only": True}
    answer = api.http.post("/v1/redrives", json=body)
    assert answer.status_code == 200
    assert answer.json() == {
        "pages": 3,
        "by_code": {"corrupt_file": 2, "encrypted_pdf": 1},
        "jobs": 1,
        "by_job": {str(job_id): 3},
        "left_out": {"canceled": 1},
        "seconds": 1.5,
    }
    assert len(listed(api)) == 4
    assert api.http.get("/v1/redrives").json()["data"] == []


def test_redrives_are_listed_page_by_page_and_keep_their_passwords_to_themselves(api: Api, run: Runs) -> None:
    run(EncryptedPdf())
    override = {"options": {"password": "secret", "parameters": {"max_tokens": 9}}}
    made = [api.http.post("/v1/redrives", json={"filter": {"all": True}, "override": override}).json()["id"]]
    made += [api.http.post("/v1/redrives", json={"filter": {"all": True}}).json()["id"] for _ in range(2)]
    first = api.http.get("/v1/redrives", params={"page_size": 2}).json()
    second = api.http.get(
        "/v1/redrives", params={"page_size": 2, "page_token": first["next_page_token"]}
    ).json()
    assert [redrive["id"] for redrive in first["data"] + second["data"]] == made[::-1]
    assert second["next_page_token"] is None
    assert second["data"][0]["override"] == {
        "options": {"password": "********", "parameters": {"max_tokens": 9}}
    }


def test_the_override_is_what_the_next_attempt_is_given(api: Api, run: Runs, database: Database) -> None:
    run(EncryptedPdf())
    body = {"filter": {"all": True}, "override": {"options": {"password": "secret"}}}
    redrive = api.http.post("/v1/redrives", json=body).json()
    (kept,) = sql(database, "SELECT override FROM redrives WHERE id = :id", id=redrive["id"])
    assert kept.override == {"password": "secret"}


def test_a_retry_runs_a_jobs_failed_pages_again(api: Api, run: Runs, database: Database) -> None:
    job_id, other = run(CorruptFile(), EncryptedPdf(), TEXT), run(CorruptFile())
    some = api.http.post(f"/v1/jobs/{job_id}/retry", json={"filter": {"codes": ["corrupt_file"]}})
    assert (some.status_code, some.json()["pages"]) == (202, 1)
    assert some.json()["filter"] == {"job_id": str(job_id), "codes": ["corrupt_file"]}
    assert api.http.get(some.headers["Location"]).json() == some.json()
    # Without a body: all that is left of it, and nothing of another job.
    rest = api.http.post(f"/v1/jobs/{job_id}/retry")
    assert rest.json()["pages"] == 1
    assert [letter["job_id"] for letter in listed(api)] == [str(other)]
    acts = sql(database, "SELECT act, subject, actor, detail FROM audit ORDER BY id")
    assert [(act.act, act.subject) for act in acts] == [("retry", f"job:{job_id}")] * 2
    assert api.http.headers["Authorization"].startswith(f"Bearer ocrk_{acts[0].actor}_")
    assert [act.detail["redrive"] for act in acts] == [int(one.json()["id"]) for one in (some, rest)]


@pytest.mark.parametrize("state", ["canceled", "canceling", "failed"])
def test_a_job_that_was_given_up_is_not_retried(api: Api, run: Runs, database: Database, state: str) -> None:
    job_id = run(CorruptFile())
    ended = "UPDATE jobs SET state = :state, finished_at = CASE WHEN :state <> 'canceling' THEN now() END"
    sql(database, ended, state=state)
    answer = api.http.post(f"/v1/jobs/{job_id}/retry", json={})
    assert (answer.status_code, answer.json()["code"], answer.json()["state"]) == (
        409,
        "job_state_conflict",
        state,
    )
    assert api.http.get("/v1/redrives").json()["data"] == []


DISCARD = {"filter": {"codes": ["a"]}, "expected_count": 1, "reason": "x"}


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/redrives", {"filter": {}}, "/filter"),
        ("/v1/redrives", {"filter": {"all": False}}, "/filter"),
        ("/v1/redrives", {}, "/filter"),
        ("/v1/redrives", {"filter": {"codes": []}}, "/filter/codes"),
        ("/v1/redrives", {"filter": {"code": ["a"]}}, "/filter/code"),
        ("/v1/redrives", {"filter": {"codes": ["a\0"]}}, "/filter/codes/0"),
        ("/v1/redrives", {"filter": {"all": True}, "max_per_second": 0}, "/max_per_second"),
        (
            "/v1/redrives",
            {"filter": {"all": True}, "override": {"options": {"dip": 1}}},
            "/override/options/dip",
        ),
        (
            "/v1/redrives",
            {"filter": {"all": True}, "override": {"options": {"parameters": {"top_p": 2}}}},
            "/override/options/parameters/top_p",
        ),
        ("/v1/redrives", {"filter": {"all": True}, "override": {"task": "text"}}, "/override/options"),
        ("/v1/dead-letters/discard", DISCARD | {"filter": {}}, "/filter"),
        ("/v1/dead-letters/discard", DISCARD | {"expected_count": -1}, "/expected_count"),
        ("/v1/dead-letters/discard", DISCARD | {"reason": ""}, "/reason"),
        (f"/v1/jobs/{UUID(int=1)}/retry", {"filter": {"job_id": str(UUID(int=2))}}, "/filter/job_id"),
    ],
)
def test_an_act_that_is_not_meant_so_is_refused(
    strict: Api, path: str, body: dict[str, Any], pointer: str
) -> None:
    answer = strict.http.post(path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert answer.json()["errors"][0]["pointer"] == pointer


def test_the_examples_of_letters_and_redrives_fit_their_models() -> None:
    answers.Letter.model_validate(answers.LETTER)
    answers.LetterDetail.model_validate(answers.LETTER_DETAIL)
    answers.LetterGroup.model_validate(answers.GROUP)
    answers.RedriveDetail.model_validate(answers.REDRIVE_DETAIL)
    answers.RedrivePlan.model_validate(answers.REDRIVE_PLAN)
    letters.DiscardRequest.model_validate(letters.DISCARD_EXAMPLE["value"])
    for example in redrives.EXAMPLES.values():
        redrives.RedriveRequest.model_validate(example["value"])
    for example in redrives.RETRY_EXAMPLES.values():
        redrives.RetryRequest.model_validate(example["value"])


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (answers.Letter, api_types.Letter),
        (answers.LetterDetail, api_types.LetterDetail),
        (answers.Attempt, api_types.Attempt),
        (answers.LetterGroup, api_types.LetterGroup),
        (answers.RedriveDetail, api_types.Redrive),
        (answers.Progress, api_types.RedriveProgress),
        (answers.RedrivePlan, api_types.RedrivePlan),
        (LetterFilter, api_types.LetterFilter),
    ],
)
def test_the_sdk_knows_the_members(answer: type[BaseModel], known: type) -> None:
    assert set(answer.model_fields) == set(get_type_hints(known))
