"""`validate_only`: what a job would be is told, and nothing is made."""

import gzip
import zlib
from typing import Any

import pytest
from api_rig import Api, StartApi
from fleet_builders import add_worker, sql

from api import estimate
from ocrfleet import blobs
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.manifests import LONGEST
from ocrfleet.settings import Settings

MANIFEST = (
    b'{"key":"a.png"}\n{"key":"b.pdf"}\nno JSON\n\n{"key":"c.zip"}\n{"key":"d.png","pages":"2"}\n{"k":1}\n'
)


@pytest.fixture
def store(s3: Settings) -> Blobs:
    store = blobs.connect(s3)
    store.ensure_bucket(s3.bucket)
    store.put("ocr", "estimates/m.jsonl", MANIFEST, "application/jsonl")
    store.put("ocr", "estimates/wrong.csv", b"a.png,b.png\n", "text/csv")
    return store


@pytest.fixture
def api(start_api: StartApi, s3: Settings, store: Blobs) -> Api:
    del store
    return start_api(
        store_url=s3.store_url,
        store_access_key=s3.store_access_key,
        store_secret_key=s3.store_secret_key.get_secret_value(),
        price_per_1000_pages=2.5,
    )


def ask(api: Api, given: dict[str, Any], **members: Any) -> dict[str, Any]:
    answer = api.http.post("/v1/jobs", json={"input": given, "validate_only": True, **members})
    assert answer.status_code == 200, answer.text
    assert "Location" not in answer.headers
    return answer.json()


def test_a_manifest_is_counted_with_its_first_faults_and_no_job_is_made(api: Api, database: Database) -> None:
    add_worker(database, rate=2.0)
    found = ask(api, {"type": "manifest", "key": "estimates/m.jsonl"})
    assert found["complete"] is True
    assert found["items"] == {"seen": 6, "estimated": 6, "to_count": 3, "invalid": 2}
    assert found["pages"] == {"at_least": 4}
    assert [(fault["line"], fault["code"]) for fault in found["errors"]] == [
        (3, "manifest_invalid"),
        (7, "manifest_invalid"),
    ]
    assert (found["seconds"], found["cost"]) == (3.0, 0.015)
    assert sql(database, "SELECT 1 FROM jobs") == []


def test_objects_and_prefixes_are_counted_too(api: Api) -> None:
    objects = {"type": "objects", "objects": [{"key": "a.png"}, {"key": "b.pdf"}]}
    assert ask(api, objects)["items"] == {"seen": 2, "estimated": 2, "to_count": 1, "invalid": 0}
    found = ask(api, {"type": "prefix", "prefix": "estimates/", "include": ["*.csv"]})
    assert found["items"] == {"seen": 1, "estimated": 1, "to_count": 1, "invalid": 0}
    assert found["seconds"] is None
    assert "no worker" in found["seconds_reason"]


def test_what_would_be_refused_is_refused(api: Api) -> None:
    for given, status, code in (
        ({"type": "manifest", "key": "estimates/nothing.jsonl"}, 404, "input_not_found"),
        ({"type": "manifest", "key": "estimates/wrong.csv"}, 422, "manifest_invalid"),
        ({"type": "prefix", "bucket": "no-such-bucket", "prefix": ""}, 404, "input_not_found"),
        ({"type": "objects", "objects": []}, 422, "validation_failed"),
    ):
        answer = api.http.post("/v1/jobs", json={"input": given, "validate_only": True})
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    body = {
        "input": {"type": "manifest", "key": "estimates/m.jsonl"},
        "task": "nothing",
        "validate_only": True,
    }
    assert api.http.post("/v1/jobs", json=body).json()["code"] == "unknown_task"


def test_of_a_long_manifest_its_beginning_tells_about_the_whole(start_api: StartApi) -> None:
    api = start_api(store_url="null://?objects=20000", validate_max_items=1000)
    found = ask(api, {"type": "manifest", "key": "m.jsonl"})
    assert found["complete"] is False
    assert found["items"]["seen"] == 1000
    assert found["items"]["estimated"] == 20000
    prefix = ask(api, {"type": "prefix", "prefix": ""})
    assert (prefix["complete"], prefix["items"]["estimated"], prefix["seconds"]) == (False, None, None)
    assert prefix["cost"] is None


def test_at_most_so_many_faults_are_told(api: Api, store: Blobs) -> None:
    store.put("ocr", "estimates/bad.jsonl", b"x\n" * 250, "application/jsonl")
    found = ask(api, {"type": "manifest", "key": "estimates/bad.jsonl"})
    assert found["items"]["invalid"] == 250
    assert [fault["line"] for fault in found["errors"]] == list(range(1, estimate.MAX_ERRORS + 1))


def test_a_manifest_without_end_is_refused_with_its_line(api: Api, store: Blobs) -> None:
    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(64)) + packer.flush()
    store.put("ocr", "estimates/endless.gz", gzip.compress(b'{"key":"a.png"}\n') + packed, "application/gzip")
    given = {"type": "manifest", "key": "estimates/endless.gz"}
    answer = api.http.post("/v1/jobs", json={"input": given, "validate_only": True})
    said = answer.json()
    assert (answer.status_code, said["code"], said["line"]) == (422, "manifest_invalid", 2)
    assert said["actual"] > said["limit"] == LONGEST
