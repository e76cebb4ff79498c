"""Buckets over HTTP: what a tenant may not read or write is refused before anything is made of it."""

from typing import Any
from uuid import uuid4

import httpx
import pytest
from api_rig import Api, Expand, NewWorker
from fleet_builders import sql
from pydantic import JsonValue

from ocrfleet.db import Database
from ocrfleet.rights import OUR_PREFIXES
from ocrfleet.store import tenants
from ocrfleet.store.tenants import Scope

DENIED = "input_access_denied"
RIGHTS = ["scans", "archive/2026/"]


@pytest.fixture
def limited(database: Database, api: Api, new_worker: NewWorker) -> Api:
    """The default tenant may use RIGHTS only."""
    new_worker()
    sql(database, "UPDATE tenants SET buckets = :buckets", buckets=RIGHTS)
    return api


def prefix(bucket: str | None, begin: str = "") -> dict[str, Any]:
    return {"input": {"type": "prefix", "bucket": bucket, "prefix": begin}}


def manifest(bucket: str | None, key: str = "m.jsonl") -> dict[str, Any]:
    return {"input": {"type": "manifest", "bucket": bucket, "key": key}}


def output(**members: Any) -> dict[str, Any]:
    return prefix("scans") | {"output": {"per_item": True, **members}}


def refused(answer: httpx.Response) -> str | None:
    """The pointer of what was refused since it is another's."""
    assert (answer.status_code, answer.json()["code"]) == (422, DENIED), answer.text
    faults: list[dict[str, str]] = answer.json().get("errors") or []
    return faults[0]["pointer"] if faults else None


@pytest.mark.parametrize(
    "body",
    [
        prefix("other"),
        prefix(None),
        prefix("archive", "2025/"),
        manifest("other"),
        manifest(None),
        manifest("archive", "2026/../m.jsonl"),
        manifest("archive", "/2026/m.jsonl"),
    ],
)
def test_a_job_reads_the_tenants_buckets_only(limited: Api, body: dict[str, Any]) -> None:
    for validate_only in (False, True):
        answer = limited.http.post("/v1/jobs", json=body | {"validate_only": validate_only})
        refused(answer)
        assert "tenants set" in answer.json()["next_step"]


def test_what_is_covered_is_taken(limited: Api) -> None:
    bodies = [
        prefix("scans"),
        prefix("archive", "2026/11/"),
        prefix("archive"),
        manifest("scans"),
        output(),
        output(bucket="archive", prefix="2026/results/"),
    ]
    for body in bodies:
        assert limited.http.post("/v1/jobs", json=body).status_code == 202, body


@pytest.mark.parametrize(
    "members",
    [{"bucket": "other"}, {"bucket": "archive", "prefix": "2025/"}, {"bucket": "ocr", "prefix": "in/"}],
)
def test_results_are_written_to_the_tenants_buckets_only(limited: Api, members: dict[str, Any]) -> None:
    assert refused(limited.http.post("/v1/jobs", json=output(**members))) == "/output/prefix"


@pytest.mark.parametrize("start", ["", "/", "//", "\\", "x\\..\\"])
@pytest.mark.parametrize("name", OUR_PREFIXES)
def test_results_are_never_written_among_ours(api: Api, new_worker: NewWorker, name: str, start: str) -> None:
    new_worker()
    place = {"bucket": "ocr", "prefix": f"{start}{name}"}
    assert refused(api.http.post("/v1/jobs", json=output(**place))) == "/output/prefix"
    assert api.http.post("/v1/jobs", json=output(**place | {"bucket": "scans"})).status_code == 202


@pytest.mark.parametrize("start", ["/", "//", "a//../", "\\"])
def test_a_manifest_of_ours_is_refused_in_any_spelling(api: Api, new_worker: NewWorker, start: str) -> None:
    new_worker()
    for name in OUR_PREFIXES:
        refused(api.http.post("/v1/jobs", json=manifest(None, f"{start}{name}{uuid4()}/m.jsonl")))


def test_a_prefix_that_no_store_holds_is_told_at_once(api: Api, new_worker: NewWorker) -> None:
    new_worker()
    answer = api.http.post("/v1/jobs", json=output(prefix="a/../results/"))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/output/prefix")
    assert answer.json()["code"] == "validation_failed"


def test_an_image_is_read_from_the_tenants_buckets_only(limited: Api) -> None:
    for image in ({"bucket": "other", "key": "a.png"}, {"bucket": "ocr", "key": f"/uploads/{uuid4()}/a.png"}):
        refused(limited.http.post("/v1/ocr", json={"image": image}))
    # Nobody answers for the store here: what is asked for may be.
    answer = limited.http.post("/v1/ocr", json={"image": {"bucket": "scans", "key": "a.png"}})
    assert answer.json()["code"] == "storage_unavailable"


@pytest.fixture
def ended(api: Api, expand: Expand, new_worker: NewWorker) -> str:
    assert api.http.post("/v1/jobs", json=prefix("scans")).status_code == 202
    job_id = expand(1)
    new_worker().settle([job_id], [{"text": "a"}])
    return str(job_id)


def export(api: Api, job_id: str, **members: JsonValue) -> httpx.Response:
    return api.http.post(f"/v1/jobs/{job_id}/exports", json={"format": "jsonl", **members})


def test_an_export_is_never_written_among_ours(api: Api, ended: str) -> None:
    for name in OUR_PREFIXES:
        for start in ("", "/", "//", "\\"):
            assert refused(export(api, ended, prefix=f"{start}{name}")) == "/prefix"
    assert refused(export(api, ended, prefix=f"exports/{uuid4()}/jsonl/")) == "/prefix"
    assert export(api, ended, prefix="a/../b/").json()["code"] == "validation_failed"
    for prefix_ in (f"exports/{ended}/mine/", "", "results/", "exportsx/"):
        assert export(api, ended, prefix=prefix_).status_code == 202, prefix_


def test_an_export_goes_to_the_tenants_buckets_or_its_own_place(
    api: Api, ended: str, database: Database
) -> None:
    sql(database, "UPDATE tenants SET buckets = :buckets", buckets=RIGHTS)
    with database.transaction() as session:
        key = tenants.create_key(session)
    with api.client(key) as http:
        for members, status in (
            ({}, 202),
            ({"bucket": "scans", "prefix": "out/"}, 202),
            ({"prefix": "out/"}, 422),
            ({"bucket": "archive", "prefix": "2025/"}, 422),
            ({"bucket": "other"}, 422),
        ):
            answer = http.post(f"/v1/jobs/{ended}/exports", json={"format": "jsonl", **members})
            assert answer.status_code == status, members
            assert status == 202 or refused(answer) == "/prefix"


def rule(api: Api, **members: Any) -> httpx.Response:
    given = {"name": "r", "bucket": "scans", "prefix": "in/", "job": {"task": "text"}} | members
    return api.http.post("/v1/bucket-rules", json=given)


def test_a_rule_takes_from_and_writes_to_the_tenants_buckets_only(limited: Api) -> None:
    refused(rule(limited, bucket="other"))
    refused(rule(limited, bucket="archive", prefix="2025/"))
    job_ = {"task": "text", "output": {"per_item": True, "bucket": "other"}}
    assert refused(rule(limited, job=job_)) == "/job/output/prefix"
    made = rule(limited, bucket="archive", prefix="2026/")
    assert made.status_code == 201
    refused(limited.http.patch(made.headers["Location"], json={"prefix": "2025/"}))
    refused(limited.http.patch(made.headers["Location"], json={"job": job_}))


def test_a_rule_that_lost_its_right_can_be_switched_off(limited: Api, database: Database) -> None:
    path = rule(limited).headers["Location"]
    sql(database, "UPDATE tenants SET buckets = '{}'")
    with database.transaction() as session:
        key = tenants.create_key(session)
    with limited.client(key) as http:
        refused(http.patch(path, json={"prefix": "x/"}))
        assert http.patch(path, json={"enabled": False}).json()["enabled"] is False


@pytest.mark.parametrize("begin", ["/uploads/", "//exports/x", "a/../files/", "\\batches\\"])
def test_a_rule_for_what_is_ours_is_refused_in_any_spelling(
    api: Api, new_worker: NewWorker, begin: str
) -> None:
    new_worker()
    answer = rule(api, bucket=None, prefix=begin)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/prefix")


def test_the_password_of_a_rule_is_kept_and_never_told(
    api: Api, new_worker: NewWorker, database: Database
) -> None:
    new_worker()

    def asked(options: dict[str, str]) -> dict[str, Any]:
        return {"task": "text", "options": options}

    made = rule(api, job=asked({"password": "hush-1", "pages": "1"}))
    path = made.headers["Location"]
    shown = [
        made,
        api.http.get(path),
        api.http.patch(path, json={"job": asked({"password": "hush-2"})}),
        api.http.get("/v1/bucket-rules"),
    ]
    told = sql(database, "SELECT detail::text AS detail FROM audit")
    for text in (*(answer.text for answer in shown), *(row.detail for row in told)):
        assert "hush" not in text
    assert made.json()["job"]["options"] == {"password": "********", "pages": "1"}
    # What was read is sent back, with one thing changed.
    job_ = api.http.get(path).json()["job"] | {"priority": 5}
    assert api.http.patch(path, json={"job": job_}).status_code == 200
    (kept,) = sql(database, "SELECT job FROM bucket_rules")
    assert (kept.job["options"]["password"], kept.job["priority"]) == ("hush-2", 5)
    assert api.http.delete(path).json()["job"]["options"]["password"] == "********"  # noqa: S105


def test_a_tenants_buckets_are_given_and_lifted(api: Api, database: Database) -> None:
    with database.transaction() as session:
        key = tenants.create_key(session, scopes=tuple(Scope))
    with api.client(key) as http:
        made = http.post("/v1/tenants", json={"name": "archive", "buckets": RIGHTS})
        assert (made.status_code, made.json()["buckets"]) == (201, RIGHTS)
        path = made.headers["Location"]
        assert http.patch(path, json={"weight": 2}).json()["buckets"] == RIGHTS, "what is not named stays"
        assert http.patch(path, json={"buckets": []}).json()["buckets"] == []
        assert http.patch(path, json={"buckets": None}).json()["buckets"] is None
        for buckets in (["/scans"], ["scans//a"], ["a"], ["scans/../b"], "scans", [1], ["scans"] * 1001):
            assert http.patch(path, json={"buckets": buckets}).status_code == 422, buckets
    acts = sql(database, "SELECT detail FROM audit WHERE act = 'tenants.change' ORDER BY id")
    assert [row.detail.get("buckets", "-") for row in acts] == ["-", [], None]
