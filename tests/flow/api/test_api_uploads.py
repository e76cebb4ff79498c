"""Uploads against a real store: presigned forms and parts, completion, expiry, and jobs of what was uploaded."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from api_rig import Api, NewKey, StartApi
from fleet_builders import sql

from ocrfleet import blobs, presign
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import InputAccessDenied, InputNotFound
from ocrfleet.s3 import S3Blobs
from ocrfleet.settings import Settings
from producer.uploads import expire

PART = 5 * 1024 * 1024
Begin = Callable[..., dict[str, Any]]


@pytest.fixture
def store(s3: Settings) -> Blobs:
    store = blobs.connect(s3)
    store.ensure_bucket(s3.bucket)
    return store


@pytest.fixture
def api(start_api: StartApi, s3: Settings, store: Blobs) -> Api:
    del store
    return start_api(
        store_url=s3.store_url,
        store_access_key=s3.store_access_key,
        store_secret_key=s3.store_secret_key.get_secret_value(),
        upload_part_bytes=PART,
        max_object_bytes=3 * PART,
    )


@pytest.fixture
def begin(api: Api) -> Begin:
    def begin(size: int, filename: str = "a.pdf", **more: str) -> dict[str, Any]:
        answer = api.http.post("/v1/uploads", json={"filename": filename, "bytes": size, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()

    return begin


def post(upload: dict[str, Any], data: bytes, **fields: str) -> httpx.Response:
    return httpx.post(upload["url"], data=upload["fields"] | fields, files={"file": ("f", data)})


def complete(api: Api, upload: dict[str, Any]) -> httpx.Response:
    return api.http.post(f"/v1/uploads/{upload['id']}/complete")


def test_a_form_takes_the_object_and_completion_its_etag(api: Api, begin: Begin, store: Blobs) -> None:
    upload = begin(7, "../some folder/数据.pdf", content_type="application/pdf")
    assert (upload["method"], upload["state"], upload["bytes"]) == ("post", "open", 7)
    assert upload["filename"] == "../some folder/数据.pdf"
    assert upload["key"].endswith(f"/{upload['id']}/_._some folder_数据.pdf")
    assert post(upload, b"content").is_success
    done = complete(api, upload).json()
    assert (done["state"], done["etag"]) == ("complete", store.stat("ocr", upload["key"]).etag)
    assert done["expires_at"] is None
    assert store.fetch("ocr", upload["key"], max_bytes=10).data == b"content"
    assert complete(api, upload).json() == done, "saying it twice does no harm"
    assert api.http.get(f"/v1/uploads/{upload['id']}").json() == done


def test_the_form_takes_no_more_than_was_declared_and_no_other_key(begin: Begin, store: Blobs) -> None:
    upload = begin(7)
    assert not post(upload, b"content!").is_success
    assert not post(upload, b"content", key=upload["key"] + "x").is_success
    with pytest.raises(InputNotFound):
        store.stat("ocr", upload["key"])


def test_completion_is_refused_until_all_declared_bytes_are_there(api: Api, begin: Begin) -> None:
    upload = begin(7)
    nothing = complete(api, upload)
    assert (nothing.status_code, nothing.json()["code"]) == (409, "upload_incomplete")
    assert post(upload, b"less").is_success
    less = complete(api, upload).json()
    assert (less["limit"], less["actual"]) == (7, 4)
    assert post(upload, b"content").is_success
    assert complete(api, upload).status_code == 200


def test_a_large_object_goes_in_parts_and_on_after_an_interruption(
    api: Api, begin: Begin, store: Blobs
) -> None:
    data = bytes(range(256)) * 4 * 5500
    upload = begin(len(data))
    assert (upload["method"], [part["bytes"] for part in upload["parts"]]) == (
        "parts",
        [PART, len(data) - PART],
    )
    assert httpx.put(upload["parts"][0]["url"], content=data[:PART]).is_success
    half = complete(api, upload)
    assert (half.status_code, half.json()["actual"]) == (409, PART)
    parts = api.http.get(f"/v1/uploads/{upload['id']}/parts").json()["data"]
    assert [part["uploaded"] for part in parts] == [True, False]
    assert httpx.put(parts[1]["url"], content=data[PART:]).is_success
    done = complete(api, upload).json()
    assert done["state"] == "complete"
    assert complete(api, upload).json() == done
    assert store.fetch("ocr", upload["key"], max_bytes=len(data)).data == data


def test_parts_put_together_whose_answer_was_lost_are_completed_by_the_next_call(
    api: Api, begin: Begin, database: Database
) -> None:
    data = b"x" * (PART + 1)
    upload = begin(len(data))
    for part, piece in zip(upload["parts"], (data[:PART], data[PART:]), strict=True):
        assert httpx.put(part["url"], content=piece).is_success
    assert complete(api, upload).status_code == 200
    # As if the process had ended between the store's answer and the record's.
    sql(database, "UPDATE uploads SET state = 'open', etag = NULL, completed_at = NULL")
    assert complete(api, upload).json()["state"] == "complete"


def test_what_is_wrong_with_a_request_is_told(api: Api) -> None:
    large = api.http.post("/v1/uploads", json={"filename": "a", "bytes": 3 * PART + 1})
    assert (large.status_code, large.json()["limit"], large.json()["actual"]) == (413, 3 * PART, 3 * PART + 1)
    for body in (
        {"filename": "a", "bytes": 0},
        {"filename": "", "bytes": 1},
        {"bytes": 1},
        {"filename": "a\0", "bytes": 1},
    ):
        assert api.http.post("/v1/uploads", json=body).status_code == 422, body


def test_uploads_are_listed_newest_first_and_another_tenants_are_nobodys(
    api: Api, begin: Begin, new_key: NewKey
) -> None:
    ids = [begin(1, f"{n}.png")["id"] for n in range(3)]
    first = api.http.get("/v1/uploads", params={"page_size": 2}).json()
    rest = api.http.get("/v1/uploads", params={"page_token": first["next_page_token"]}).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == ids[::-1]
    assert api.http.get("/v1/uploads", params={"state": "complete"}).json()["data"] == []
    with api.client(new_key("other")) as other:
        assert other.get("/v1/uploads").json()["data"] == []
        for call in (other.get, other.delete):
            assert call(f"/v1/uploads/{ids[0]}").status_code == 404
        assert other.get(f"/v1/uploads/{ids[0]}/parts").status_code == 404
        assert other.post(f"/v1/uploads/{ids[0]}/complete").status_code == 404
        body = {"input": {"type": "uploads", "ids": [ids[0]]}}
        refused = other.post("/v1/jobs", json=body)
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/input/ids/0")
        key = api.http.get(f"/v1/uploads/{ids[0]}").json()["key"]
        for path, named in (
            ("/v1/jobs", {"input": {"type": "manifest", "key": key}}),
            ("/v1/jobs", {"input": {"type": "manifest", "key": key}, "validate_only": True}),
        ):
            assert other.post(path, json=named).json()["code"] == "input_access_denied"
        prefix = {"input": {"type": "prefix", "prefix": key}, "validate_only": True}
        assert other.post("/v1/jobs", json=prefix).json()["items"]["seen"] == 0


def test_deleting_aborts_and_takes_the_object(
    api: Api, begin: Begin, store: Blobs, database: Database
) -> None:
    upload, parts = begin(7), begin(PART + 1)
    assert post(upload, b"content").is_success
    assert complete(api, upload).status_code == 200
    for one in (upload, parts):
        assert api.http.delete(f"/v1/uploads/{one['id']}").status_code == 204
        assert api.http.get(f"/v1/uploads/{one['id']}").status_code == 404
    with pytest.raises(InputNotFound):
        store.stat("ocr", upload["key"])
    assert not httpx.put(parts["parts"][0]["url"], content=b"x" * PART).is_success
    acts = sql(
        database,
        "SELECT act FROM audit WHERE subject = :subject ORDER BY id",
        subject=f"upload:{upload['id']}",
    )
    assert [row.act for row in acts] == ["create", "complete", "delete"]


def test_what_nobody_completes_expires(
    api: Api, begin: Begin, store: Blobs, database: Database, s3: Settings
) -> None:
    signer = presign.connect(s3)
    old, parts, fresh, done = begin(7), begin(PART + 1), begin(7), begin(7)
    for one in (old, fresh, done):
        assert post(one, b"content").is_success
    assert complete(api, done).status_code == 200
    age = "UPDATE uploads SET created_at = now() - interval '25 hours' WHERE id = ANY(:ids)"
    sql(database, age, ids=[UUID(one["id"]) for one in (old, parts, done)])
    assert expire(api.settings, database, store, signer) == 2
    assert expire(api.settings, database, store, signer) == 0
    states = {one["id"]: one["state"] for one in api.http.get("/v1/uploads").json()["data"]}
    assert [states[one["id"]] for one in (old, parts, fresh, done)] == [
        "expired",
        "expired",
        "open",
        "complete",
    ]
    with pytest.raises(InputNotFound):
        store.stat("ocr", old["key"])
    assert store.stat("ocr", fresh["key"])
    assert store.stat("ocr", done["key"])
    assert not httpx.put(parts["parts"][0]["url"], content=b"x" * PART).is_success
    assert complete(api, old).status_code == 409


class Refusing(S3Blobs):
    """Whose bucket `refused` is somebody else's."""

    def remove(self, bucket: str, key: str) -> None:
        if bucket == "refused":
            raise InputAccessDenied(f"{bucket}/{key}")
        if bucket == "gone-for-ever":
            raise InputNotFound(f"{bucket}/{key}")
        super().remove(bucket, key)


def test_an_upload_that_the_store_refuses_holds_up_no_other(
    api: Api, begin: Begin, store: Blobs, database: Database
) -> None:
    last = begin(7)
    assert post(last, b"content").is_success
    query = """
        INSERT INTO uploads (id, tenant_id, bucket, key, filename, bytes, state, created_at)
        SELECT gen_random_uuid(), id, b, 'k', 'f', 1, 'expired', now() - interval '9 days'
        FROM tenants, unnest(ARRAY['gone-for-ever', 'refused']) AS b"""
    sql(database, query)
    sql(database, "UPDATE uploads SET created_at = now() - interval '25 hours' WHERE state = 'open'")
    expire(api.settings, database, Refusing(api.settings), None)
    left = "SELECT bucket FROM uploads WHERE completed_at IS NULL"
    assert [row.bucket for row in sql(database, left)] == ["refused"]
    with pytest.raises(InputNotFound):
        store.stat("ocr", last["key"])


def test_a_job_of_uploads_reads_what_was_completed(api: Api, begin: Begin, database: Database) -> None:
    uploads = [begin(7, f"{n}.png") for n in range(2)]
    body = {"input": {"type": "uploads", "ids": [one["id"] for one in uploads]}}
    open_one = api.http.post("/v1/jobs", json=body)
    assert (open_one.status_code, open_one.json()["errors"][0]["pointer"]) == (409, "/input/ids/0")
    for one in uploads:
        assert post(one, b"content").is_success
        assert complete(api, one).status_code == 200
    job = api.http.post("/v1/jobs", json=body).json()
    assert job["input"] == {"type": "uploads", "count": 2}
    (row,) = sql(database, "SELECT input FROM jobs WHERE id = :job", job=UUID(job["id"]))
    found = [(one["key"], one["custom_id"], bool(one["etag"])) for one in row.input["objects"]]
    assert found == [(one["key"], one["filename"], True) for one in uploads]
    missing = {"input": {"type": "uploads", "ids": [uploads[0]["id"], str(uuid4())]}}
    refused = api.http.post("/v1/jobs", json=missing)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/input/ids/1")
