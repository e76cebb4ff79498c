"""What stores may tell the API, who may see it, and the rules that are applied to it."""

import base64
from typing import Any

import httpx
import orjson
import pytest
from api_rig import Api, NewKey, NewWorker
from fleet_builders import sql

from ocrfleet.db import Database

RECORD: dict[str, Any] = {
    "eventName": "s3:ObjectCreated:Put",
    "s3": {
        "bucket": {"name": "scans"},
        "object": {"key": "in%2Fa.png", "eTag": "e1", "sequencer": "1", "size": 5},
    },
}
EVENT: dict[str, Any] = {"EventName": "s3:ObjectCreated:Put", "Key": "scans/in/a.png", "Records": [RECORD]}
JOB: dict[str, Any] = {"task": "text", "output": {"per_item": True}}


@pytest.fixture
def source(api: Api) -> dict[str, Any]:
    made = api.http.post("/v1/event-sources", json={"name": "minio"})
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    return made.json()


def post(api: Api, source: dict[str, Any], body: object = EVENT, **headers: str) -> httpx.Response:
    """As a store does: without a key of ours."""
    headers = headers or {"Authorization": f"Bearer {source['token']}"}
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    with api.client("") as stranger:
        return stranger.post(source["path"], content=content, headers=headers)


def listed(api: Api, **query: Any) -> list[dict[str, Any]]:
    return api.http.get("/v1/bucket-events", params=query).json()["data"]


def test_an_event_is_accepted_with_the_token_however_a_store_sends_it(
    api: Api, source: dict[str, Any]
) -> None:
    token = source["token"]
    basic = base64.b64encode(f"ocrfleet:{token}".encode()).decode()
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"Authorization": token},
        {"Authorization": f"Basic {basic}"},
        {"X-Api-Key": token},
    ):
        answer = post(api, source, **headers)
        assert (answer.status_code, answer.content) == (204, b"")
    (event,) = listed(api)
    assert (event["bucket"], event["key"], event["etag"], event["bytes"]) == ("scans", "in/a.png", "e1", 5)
    assert orjson.loads(event["raw"]) == RECORD
    assert (event["source"], event["fault"]) == ("minio", None)


def test_without_its_token_nothing_is_taken(
    api: Api, source: dict[str, Any], database: Database, new_key: NewKey
) -> None:
    with api.client(new_key("other")) as http:
        other = http.post("/v1/event-sources", json={"name": "minio"}).json()
    key: str = api.http.headers["Authorization"]
    for headers in (
        {"X": "y"},
        {"Authorization": key},
        {"Authorization": "Bearer ocre_x"},
        {"Authorization": "Basic %"},
    ):
        answer = post(api, source, **headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert post(api, source | {"path": "/v1/bucket-events/none"}).status_code == 401
    assert post(api, source | {"path": "/v1/bucket-events/a%00"}).status_code == 401
    assert sql(database, "SELECT * FROM bucket_events") == []
    assert post(api, other).status_code == 204
    assert listed(api) == [], "it is the other tenant's of the same name"
    kept = sql(database, "SELECT encode(token_sha256, 'hex') AS digest, name FROM event_sources")
    assert source["token"] not in str(kept)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"Records":[{"s3":5}]}', b"[" * 100_000]
)
def test_every_authenticated_event_is_accepted(api: Api, source: dict[str, Any], body: bytes) -> None:
    assert post(api, source, body).status_code == 204
    found = listed(api, quarantined=True)
    assert len(found) == (0 if body == b"[]" else 1)
    assert all(event["fault"] and event["handled_at"] is None for event in found)
    assert listed(api, quarantined=False) == []


def test_of_many_records_the_good_ones_count(api: Api, source: dict[str, Any]) -> None:
    other = orjson.loads(orjson.dumps(RECORD).replace(b"a.png", b"b+c.png"))
    test = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "scans"}
    assert post(api, source, test).status_code == 204
    assert (
        post(api, source, {"Records": [RECORD, {"eventName": 5, "s3": {}}, other, RECORD]}).status_code == 204
    )
    assert {event["key"] for event in listed(api, quarantined=False)} == {"in/a.png", "in/b c.png"}
    assert len(listed(api, quarantined=True)) == 1
    first = api.http.get("/v1/bucket-events", params={"page_size": 2}).json()
    rest = api.http.get("/v1/bucket-events", params={"page_token": first["next_page_token"]}).json()
    assert (len(first["data"]), len(rest["data"]), rest["next_page_token"]) == (2, 1, None)


def test_sources_are_listed_without_tokens_and_deleted_for_good(api: Api, source: dict[str, Any]) -> None:
    again = api.http.post("/v1/event-sources", json={"name": "minio"})
    assert (again.status_code, again.json()["errors"][0]["pointer"]) == (422, "/name")
    post(api, source, b"{")
    (shown,) = api.http.get("/v1/event-sources").json()["data"]
    assert (shown["name"], shown["quarantined"], "token" in shown) == ("minio", 1, False)
    assert shown["last_event_at"]
    assert api.http.delete(f"/v1/event-sources/{source['id']}").json()["name"] == "minio"
    assert api.http.delete(f"/v1/event-sources/{source['id']}").status_code == 404
    assert post(api, source).status_code == 401


def rule(api: Api, **members: Any) -> httpx.Response:
    given = {"name": "r", "bucket": "scans", "prefix": "in/", "job": JOB} | members
    return api.http.post("/v1/bucket-rules", json=given)


def test_a_rule_is_made_shown_changed_and_deleted(
    api: Api, new_worker: NewWorker, database: Database
) -> None:
    new_worker("text", "extract")
    job = {
        "task": "extract",
        "fields": ["total"],
        "priority": 3,
        "labels": {"a": "b"},
        "options": {"pages": "1"},
    }
    made = rule(api, suffix=".pdf", job=job)
    assert made.status_code == 201
    shown = made.json()
    assert shown["job"]["fields"] == ["total"]
    assert shown["job"]["options"] == {"pages": "1"}
    assert (shown["rescan_seconds"], shown["rescan_fault"], shown["open_job_id"]) == (900, None, None)
    path = made.headers["Location"]
    assert api.http.get(path).json() == shown
    assert api.http.get("/v1/bucket-rules", params={"name": "r"}).json()["data"] == [shown]
    assert api.http.get("/v1/bucket-rules", params={"name": "s"}).json()["data"] == []
    changed = api.http.patch(path, json={"enabled": False, "job": JOB}).json()
    assert (changed["enabled"], changed["job"]["task"], changed["suffix"]) == (False, "text", ".pdf")
    assert changed["job"]["output"] == {"per_item": True, "prefix": "results/", "on_existing": "overwrite"}
    assert rule(api).json()["errors"][0]["pointer"] == "/name"
    rule(api, name="s")
    assert api.http.patch(path, json={"name": "s"}).status_code == 422
    assert api.http.delete(path).json()["name"] == "r"
    for method in ("GET", "PATCH", "DELETE"):
        assert api.http.request(method, path, json={}).status_code == 404
    acts = [
        row.act for row in sql(database, "SELECT act FROM audit WHERE subject = 'bucket_rule:r' ORDER BY id")
    ]
    assert acts == ["create_bucket_rule", "change_bucket_rule", "delete_bucket_rule"]


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"job": {"task": "nonsense"}}, None),
        ({"job": {"task": "text", "fields": ["a"]}}, "/job/fields"),
        ({"job": {"task": "text", "input": {}}}, "/job/input"),
        (
            {"job": {"task": "text", "output": {"per_item": True, "on_existing": "skip"}}},
            "/job/output/on_existing",
        ),
        ({"name": "a b"}, "/name"),
        ({"rescan_seconds": 9}, "/rescan_seconds"),
        ({"prefix": "a\0"}, "/prefix"),
        ({"bucket": None, "prefix": "interactive/x"}, "/prefix"),
        ({"bucket": "ocr", "prefix": "exports/"}, "/prefix"),
        ({"enabled": 1}, "/enabled"),
    ],
)
def test_a_rule_is_checked_as_a_job_is(
    api: Api, new_worker: NewWorker, members: dict[str, Any], pointer: str | None
) -> None:
    new_worker("text")
    answer = rule(api, **members)
    assert answer.status_code == 422
    if pointer is None:
        assert answer.json()["code"] == "unknown_task"
    else:
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]


def test_another_tenant_finds_none_of_it(
    api: Api, source: dict[str, Any], new_worker: NewWorker, new_key: NewKey
) -> None:
    new_worker("text")
    path = rule(api).headers["Location"]
    post(api, source)
    with api.client(new_key("other")) as other:
        for name in ("bucket-rules", "event-sources", "bucket-events"):
            assert other.get(f"/v1/{name}").json() == {"data": [], "next_page_token": None}
        for method in ("GET", "PATCH", "DELETE"):
            assert other.request(method, path, json={"enabled": False}).status_code == 404
        assert other.delete(f"/v1/event-sources/{source['id']}").status_code == 404
        assert other.post("/v1/bucket-rules", json={"name": "r", "job": JOB}).status_code == 201
    assert api.http.get(path).json()["enabled"]
