"""Dead letters over HTTP: found, understood, given up."""

from collections.abc import Sequence
from typing import Any

import pytest
from api_rig import Api, Expand, NewKey, NewWorker, StartApi
from fleet_builders import pages, sql
from letters_rig import PREFIX, TEXT, Runs, listed

from ocrfleet import blobs
from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile, EncryptedPdf, StorageUnavailable
from ocrfleet.settings import Settings


@pytest.fixture
def run(api: Api, expand: Expand, new_worker: NewWorker) -> Runs:
    return Runs(api, expand, new_worker("text"))


def keys(letters: Sequence[dict[str, Any]]) -> list[str]:
    return [letter["key"] for letter in letters]


def test_letters_are_listed_with_what_is_needed_to_find_the_page(api: Api, run: Runs) -> None:
    job_id = run(TEXT, CorruptFile("It is torn."), StorageUnavailable("no answer"))
    newest, oldest = sorted(listed(api), key=lambda letter: letter["key"], reverse=True)
    assert oldest == {
        "id": oldest["id"], "created_at": oldest["created_at"], "item_id": oldest["item_id"],
        "member": None, "state": "dead", "job_id": str(job_id), "custom_id": "c1", "bucket": "scans", "key": "1.png", "page": 1,
        "code": "corrupt_file", "retryable": False, "detail": "It is torn.", "attempt": 1,
        "worker": "ocr", "device": "cpu:1", "model": "none", "revision": "1", "discarded_at": None, "redrive_id": None,
    }  # fmt: skip
    assert (newest["code"], newest["retryable"]) == ("storage_unavailable", True)


def test_the_list_is_filtered_and_goes_on_from_page_to_page(api: Api, run: Runs) -> None:
    first, second = run(*[CorruptFile()] * 4), run(EncryptedPdf(), EncryptedPdf(), CorruptFile())
    assert keys(listed(api, job_id=str(first))) == ["3.png", "2.png", "1.png", "0.png"]
    assert len(listed(api, codes=["encrypted_pdf", "empty_file"])) == 2
    assert len(listed(api, codes="corrupt_file", worker="ocr", revision="1")) == 5
    assert listed(api, worker="another") == []
    assert listed(api, created_before="2020-01-01T00:00:00Z") == []
    one = listed(api)[3]
    assert listed(api, page_ids=one["id"]) == [one]
    gathered: list[dict[str, Any]] = []
    token: str | None = ""
    while token is not None:
        params = {"page_size": 3, "codes": "corrupt_file", **({"page_token": token} if token else {})}
        answer = api.http.get("/v1/dead-letters", params=params).json()
        gathered += answer["data"]
        token = answer["next_page_token"]
    assert gathered == listed(api, codes="corrupt_file")
    assert {letter["job_id"] for letter in gathered} == {str(first), str(second)}


@pytest.mark.parametrize("by", ["code", "revision", "worker", "job"])
def test_letters_are_counted_in_groups(api: Api, run: Runs, by: str) -> None:
    job_id = run(CorruptFile("It is torn."), CorruptFile("It is torn."), EncryptedPdf("Locked."))
    groups = listed(api, group_by=by, codes="corrupt_file")
    key = {"code": "corrupt_file", "revision": "1", "worker": "ocr", "job": str(job_id)}[by]
    assert [(group["key"], group["count"]) for group in groups] == [(key, 2)]
    assert groups[0]["example"]["detail"] == "It is torn."
    assert groups[0]["example"]["id"] in {letter["id"] for letter in listed(api)}
    assert groups[0]["oldest"] <= groups[0]["newest"]


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({"page_token": "x"}, "query:page_token"),
        ({"page_token": "WzFd"}, "query:page_token"),
        ({"page_size": 501}, "query:page_size"),
        ({"group_by": "colour"}, "query:group_by"),
        ({"colour": "red"}, "query:colour"),
        ({"job_id": "x"}, "query:job_id"),
        ({"page_ids": "x"}, "query:page_ids:0"),
        ({"worker": "a\0b"}, "query:worker"),
        ({"created_after": "2026-01-01T00:00:00"}, "query:created_after"),
    ],
)
def test_letters_cannot_be_asked_for_with_nonsense(strict: Api, params: dict[str, Any], pointer: str) -> None:
    answer = strict.http.get("/v1/dead-letters", params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


def test_one_letter_tells_every_attempt_and_what_came_of_a_redrive(api: Api, run: Runs) -> None:
    job_id = run(CorruptFile("It is torn."))
    (letter,) = listed(api)
    url = f"/v1/dead-letters/{letter['id']}"
    detail = api.http.get(url).json()
    assert {name: detail[name] for name in letter} == letter
    assert detail["error"] == {"code": "corrupt_file", "retryable": False, "detail": "It is torn."}
    assert detail["thumbnail"] is None
    (attempt,) = detail["attempts"]
    assert (attempt["attempt"], attempt["code"], attempt["worker"]) == (1, "corrupt_file", "ocr")
    assert attempt["started_at"] <= attempt["ended_at"]
    redrive = api.http.post("/v1/redrives", json={"filter": {"page_ids": [letter["id"]]}}).json()
    run.again(job_id, TEXT)
    detail = api.http.get(url).json()
    assert (detail["state"], detail["redrive_id"], detail["code"]) == ("succeeded", redrive["id"], None)
    assert detail["attempts"] == [attempt]


def test_a_letter_has_the_thumbnail_that_its_last_attempt_left(
    start_api: StartApi, s3: Settings, database: Database, expand: Expand, new_worker: NewWorker
) -> None:
    api = start_api(**s3.model_dump(include={"store_url", "store_access_key", "store_secret_key"}))
    api.http.post("/v1/jobs", json=PREFIX)
    job_id = expand(2)
    new_worker("text").settle([job_id], [CorruptFile(), CorruptFile()])
    store = blobs.connect(s3)
    store.put("ocr", f"thumbnails/{job_id}/x.jpg", b"\xff\xd8a small page", "image/jpeg")
    with_one, without = pages(database, job_id)
    query = "UPDATE attempts SET thumbnail = :key WHERE page_id = :page"
    sql(database, query, key=f"thumbnails/{job_id}/x.jpg", page=with_one.id)
    url = api.http.get(f"/v1/dead-letters/{with_one.id}").json()["thumbnail"]
    answer = api.http.get(url)
    assert (answer.headers["Content-Type"], answer.content) == ("image/jpeg", b"\xff\xd8a small page")
    missing = api.http.get(f"/v1/dead-letters/{without.id}/thumbnail")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    store.remove("ocr", f"thumbnails/{job_id}/x.jpg")
    assert api.http.get(url).status_code == 404


def test_discarded_letters_leave_the_list(api: Api, run: Runs) -> None:
    run(CorruptFile(), CorruptFile(), EncryptedPdf())
    body = {"filter": {"codes": ["corrupt_file"]}, "expected_count": 3, "reason": "scanned again"}
    answer = api.http.post("/v1/dead-letters/discard", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "job_state_conflict")
    assert (problem["expected"], problem["actual"]) == (3, 2)
    assert len(listed(api)) == 3
    gone = listed(api, codes="corrupt_file")[0]["id"]
    assert api.http.post("/v1/dead-letters/discard", json=body | {"expected_count": 2}).json() == {
        "discarded": 2
    }
    assert [letter["code"] for letter in listed(api)] == ["encrypted_pdf"]
    assert api.http.get(f"/v1/dead-letters/{gone}").json()["discarded_at"]


def test_another_tenants_letters_and_redrives_are_not_there(api: Api, run: Runs, new_key: NewKey) -> None:
    job_id = run(CorruptFile())
    (letter,) = listed(api)
    redrive = api.http.post("/v1/redrives", json={"filter": {"codes": ["none"]}}).json()
    with api.client(new_key("other")) as other:
        for path in (
            f"/v1/dead-letters/{letter['id']}",
            f"/v1/dead-letters/{letter['id']}/thumbnail",
            f"/v1/redrives/{redrive['id']}",
        ):
            assert (other.get(path).status_code, other.get(path).json()["code"]) == (404, "not_found")
        assert other.get("/v1/dead-letters").json()["data"] == []
        assert other.get("/v1/redrives").json()["data"] == []
        assert other.post(f"/v1/jobs/{job_id}/retry").status_code == 404
        assert other.post("/v1/redrives", json={"filter": {"all": True}}).json()["pages"] == 0
        discard = {"filter": {"all": True}, "expected_count": 1, "reason": "x"}
        assert other.post("/v1/dead-letters/discard", json=discard).json()["actual"] == 0
    assert listed(api) == [letter]
