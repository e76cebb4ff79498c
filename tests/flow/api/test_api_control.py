"""What a caller does to a job over HTTP: how each act answers, when it is refused, and who did it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from api_rig import Api, Expand, NewKey, NewWorker
from sqlalchemy import text

from api.control import CHANGE_EXAMPLES, JobChanges
from api.schemas import MAX_LABELS
from ocrfleet.db import Database
from ocrfleet.store import audit, control, purge, tenants

PREFIX = {"input": {"type": "prefix", "prefix": "2026/"}}
ACTS = [("POST", "/cancel"), ("POST", "/pause"), ("POST", "/resume"), ("PATCH", ""), ("DELETE", "")]

Make = Callable[..., tuple[str, UUID]]


@pytest.fixture
def make(api: Api, expand: Expand) -> Make:
    """A job with pages, as (its URL, its id)."""

    def make(pages: int = 3) -> tuple[str, UUID]:
        url = api.http.post("/v1/jobs", json=PREFIX).headers["Location"]
        return url, expand(pages)

    return make


def act(http: httpx.Client, method: str, url: str) -> httpx.Response:
    return http.request(method, url, json={"priority": 1} if method == "PATCH" else None)


def refused(answer: httpx.Response, state: str) -> None:
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status_code, problem["code"], problem["state"]) == (409, "job_state_conflict", state)
    assert f"The job is {state}" in problem["detail"]


def test_cancel_answers_with_the_job_and_may_be_repeated(api: Api, make: Make) -> None:
    url, _ = make(3)
    answer = api.http.post(f"{url}/cancel")
    job = answer.json()
    assert (answer.status_code, job["state"], job["counts"]["canceled"]) == (202, "canceled", 3)
    assert job["error"]["code"] == "canceled"
    again = api.http.post(f"{url}/cancel")
    assert (again.status_code, again.json()) == (202, job)
    assert api.http.get(url).json() == job


def test_pause_and_resume_answer_with_the_job_and_may_be_repeated(api: Api, make: Make) -> None:
    url, _ = make()
    for call, state in (("pause", "paused"), ("pause", "paused"), ("resume", "queued"), ("resume", "queued")):
        answer = api.http.post(f"{url}/{call}")
        assert (answer.status_code, answer.json()["state"]) == (202, state)
        assert answer.json()["blocked_on"] == ("paused" if state == "paused" else "no_workers")


def test_what_has_ended_is_neither_paused_nor_canceled_nor_hurried(
    api: Api, make: Make, new_worker: NewWorker
) -> None:
    url, job_id = make(1)
    new_worker().settle([job_id], [{"text": "a"}])
    for call in ("cancel", "pause", "resume"):
        refused(api.http.post(f"{url}/{call}"), "completed")
    for changes in ({"priority": 1}, {"deadline": None}):
        refused(api.http.patch(url, json=changes), "completed")
    labeled = api.http.patch(url, json={"labels": {"read": "yes"}})
    assert (labeled.status_code, labeled.json()["labels"]) == (200, {"read": "yes"})


def test_what_has_not_ended_is_not_deleted(api: Api, make: Make) -> None:
    url, _ = make()
    refused(api.http.delete(url), "queued")
    api.http.post(f"{url}/pause")
    refused(api.http.delete(url), "paused")


def test_a_change_touches_what_it_names(api: Api, make: Make) -> None:
    url, _ = make()
    deadline = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
    first = api.http.patch(url, json={"priority": 9, "labels": {"a": "1", "b": "2"}})
    assert (first.status_code, first.json()["deadline"]) == (200, None)
    second = api.http.patch(
        url, json={"deadline": deadline.isoformat(), "labels": {"a": None, "c": "3"}}
    ).json()
    assert datetime.fromisoformat(second["deadline"]) == deadline
    assert (second["priority"], second["labels"]) == (9, {"b": "2", "c": "3"})
    third = api.http.patch(url, json={"deadline": None}).json()
    assert (third["deadline"], third["priority"], third["labels"]) == (None, 9, {"b": "2", "c": "3"})
    assert api.http.patch(url, json={}).json() == third == api.http.get(url).json()


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"priority": None}, "/priority"),
        ({"priority": 10}, "/priority"),
        ({"deadline": "2020-01-01T00:00:00Z"}, "/deadline"),
        ({"deadline": "2030-01-01T00:00:00"}, "/deadline"),
        ({"labels": None}, "/labels"),
        ({"labels": {"a b": "c"}}, "/labels/a b"),
        ({"state": "paused"}, "/state"),
    ],
)
def test_a_change_that_does_not_fit_is_told_where(
    api: Api, make: Make, changes: dict[str, Any], pointer: str
) -> None:
    url, _ = make()
    problem = api.http.patch(url, json=changes).json()
    assert (problem["status"], problem["code"]) == (422, "validation_failed")
    assert pointer in {fault["pointer"] for fault in problem["errors"]}


def test_more_labels_than_a_job_may_have_are_refused_and_none_is_kept(api: Api, make: Make) -> None:
    url, _ = make()
    half = MAX_LABELS // 2
    api.http.patch(url, json={"labels": {f"a{n}": "" for n in range(half)}})
    answer = api.http.patch(url, json={"priority": 5, "labels": {f"b{n}": "" for n in range(half + 1)}})
    problem = answer.json()
    assert (answer.status_code, problem["limit"], problem["actual"]) == (422, MAX_LABELS, MAX_LABELS + 1)
    job = api.http.get(url).json()
    assert (job["priority"], len(job["labels"])) == (0, half)


def test_a_deleted_job_is_gone_for_everything_but_another_delete(api: Api, make: Make) -> None:
    url, _ = make()
    kept, _ = make()
    api.http.post(f"{url}/cancel")
    answer = api.http.delete(url)
    assert (answer.status_code, answer.json()["state"]) == (202, "canceled")
    again = api.http.delete(url)
    assert (again.status_code, again.json()) == (202, answer.json())
    for method, path in (("GET", ""), ("GET", "/results"), *ACTS[:-1]):
        gone = act(api.http, method, url + path)
        assert (gone.status_code, gone.json()["code"]) == (404, "not_found")
    assert [job["id"] for job in api.http.get("/v1/jobs").json()["data"]] == [kept.rpartition("/")[2]]


def test_once_its_rows_are_gone_a_job_is_not_found_even_to_be_deleted(
    api: Api, database: Database, make: Make
) -> None:
    url, _ = make()
    api.http.post(f"{url}/cancel")
    api.http.delete(url)
    for _ in range(3):
        with database.transaction() as session:
            if chunk := purge.lease(session, 60.0):
                purge.step(session, chunk)
    assert api.http.delete(url).status_code == 404


def test_a_stream_whose_job_is_deleted_breaks_off_without_its_last_line(
    api: Api, database: Database, make: Make, new_worker: NewWorker
) -> None:
    """A client that resumes it is told that the job is gone; it never takes what it has for the whole."""
    url, job_id = make(2)
    new_worker().settle([job_id], [{"text": "a"}])
    with api.http.stream("GET", f"{url}/results?follow=true") as answer:
        lines = answer.iter_lines()
        assert orjson.loads(next(lines))["seq"] == 1
        with database.transaction() as session:
            tenant = session.execute(text("SELECT tenant_id FROM jobs")).scalar_one()
            control.cancel(session, tenant, job_id)
            control.delete(session, tenant, job_id, actor="a")
        assert [line for line in lines if line] == []


@pytest.mark.parametrize(("method", "path"), ACTS)
def test_another_tenants_job_is_not_there(
    api: Api, make: Make, new_key: NewKey, method: str, path: str
) -> None:
    url, _ = make()
    before = api.http.get(url).json()
    with api.client(new_key("other")) as other:
        answer = act(other, method, url + path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert api.http.get(url).json() == before


def test_the_audit_names_the_key(api: Api, database: Database, make: Make) -> None:
    url, job_id = make()
    for method, path in ACTS[1:4] + ACTS[:1] + ACTS[4:]:
        assert act(api.http, method, url + path).status_code in (200, 202)
    key: str = api.http.headers["Authorization"]
    with database.transaction() as session:
        caller = tenants.authenticate(session, key.removeprefix("Bearer "))
        rows = audit.listing(session, caller.tenant_id, limit=9, subject=f"job:{job_id}")
    assert [row["act"] for row in rows] == ["delete", "cancel", "change", "resume", "pause"]
    assert {row["actor"] for row in rows} == {caller.key_id}
    assert rows[2]["detail"] == {"before": {"priority": 0}, "after": {"priority": 1}}


def test_the_examples_fit_their_model() -> None:
    for example in CHANGE_EXAMPLES.values():
        members = {
            name: value for name, value in example["value"].items() if value is None or name != "deadline"
        }
        JobChanges.model_validate(members)
