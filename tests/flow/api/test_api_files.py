"""Files, as the OpenAI client uploads and reads them."""

from typing import Any

import pytest
from api_rig import Api, NewKey, StartApi

from ocrfleet.settings import Settings


@pytest.fixture
def api(start_api: StartApi, s3: Settings) -> Api:
    return start_api(**s3.model_dump(include={"store_url", "store_access_key", "store_secret_key"}))


def test_files_are_kept_listed_read_and_deleted(api: Api, new_key: NewKey) -> None:
    made = [
        api.http.post("/v1/files", files={"file": (f"../{n}.jsonl", b"%d\n" % n)}, data={"purpose": "batch"})
        for n in range(3)
    ]
    first = made[0].json()
    assert (first["object"], first["bytes"], first["filename"], first["status"]) == (
        "file",
        2,
        "0.jsonl",
        "processed",
    )
    ids = [answer.json()["id"] for answer in made]
    listed = api.http.get("/v1/files", params={"limit": 2}).json()
    assert ([file["id"] for file in listed["data"]], listed["has_more"]) == (ids[:0:-1], True)
    rest = api.http.get("/v1/files", params={"limit": 2, "after": listed["last_id"]}).json()
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == (ids[:1], False)
    assert [file["id"] for file in api.http.get("/v1/files?order=asc&limit=1").json()["data"]] == ids[:1]
    assert api.http.get(f"/v1/files/{ids[1]}").json() == made[1].json()
    assert api.http.get(f"/v1/files/{ids[1]}/content").content == b"1\n"
    with api.client(new_key("other")) as other:
        assert other.get("/v1/files").json()["data"] == []
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            assert other.request(method, f"/v1/files/{ids[1]}{path}").status_code == 404
        theirs = {"input_file_id": ids[1], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        assert other.post("/v1/batches", json=theirs).status_code == 404
    assert api.http.delete(f"/v1/files/{ids[1]}").json() == {"id": ids[1], "object": "file", "deleted": True}
    gone = api.http.get(f"/v1/files/{ids[1]}/content")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("form", "data", "status", "param"),
    [
        ({}, {"purpose": "batch"}, 415, None),
        ({"x": ("a", b"b")}, {"purpose": "batch"}, 400, "file"),
        ({"file": ("a", b"b")}, {"purpose": "fine-tune"}, 400, "purpose"),
        ({"file": ("a", b"")}, {"purpose": "batch"}, 400, None),
        ({"file": ("a", b"x" * 1001)}, {"purpose": "batch"}, 413, None),
    ],
)
def test_a_file_that_is_none_is_refused_in_their_shape(
    start_api: StartApi, form: dict[str, Any], data: dict[str, str], status: int, param: str | None
) -> None:
    answer = start_api(max_object_bytes=1000).http.post("/v1/files", files=form, data=data)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (set(error), error["param"]) == ({"message", "type", "param", "code"}, param)
    assert answer.headers["Content-Type"] == "application/json"
