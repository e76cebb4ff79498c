"""What tenants may write, asked by the producers again: results per item and exports, and names that no store holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from exports_rig import Kept, ended_job, run_all, state
from fleet_builders import add_job, job, sql, tenant_id
from fleet_rig import settle_all

from ocrfleet.blobs import NullBlobs
from ocrfleet.db import Database
from ocrfleet.errors import InputAccessDenied, InputNotFound
from ocrfleet.s3 import BadName, BlobInfo
from ocrfleet.settings import Settings
from ocrfleet.states import ExportFormat
from ocrfleet.store import exports
from ocrfleet.store.expansion import NewItem
from producer.item_outputs import ItemWriter

OUTPUT = {"per_item": True, "prefix": "results/"}
DENIED = "input_access_denied"


def allow(database: Database, *buckets: str) -> None:
    sql(database, "UPDATE tenants SET buckets = :buckets", buckets=list(buckets))


# Results per item


class Puts(NullBlobs):
    """Keeps which keys were put; whoever names `gone` or `closed`, or a key with `bad`, is refused."""

    def __init__(self) -> None:
        super().__init__(0)
        self.keys: list[str] = []

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo:
        del data, content_type
        if "bad" in key:
            raise BadName(f"{key}: the store answers 400, XMinioInvalidObjectName")
        if bucket == "gone":
            raise InputNotFound("NoSuchBucket")
        if bucket == "closed":
            raise InputAccessDenied("no")
        self.keys.append(f"{bucket}/{key}")
        return BlobInfo(bucket, key, "e", None, 1)


@pytest.fixture
def puts() -> Puts:
    return Puts()


@pytest.fixture
def writer(database: Database, puts: Puts) -> Iterator[ItemWriter]:
    writer = ItemWriter(Settings(bucket="ocr"), database, puts)
    yield writer
    writer.close()


def written(database: Database, writer: ItemWriter, job_id: UUID) -> Any:  # noqa: ANN401
    """The job's error when there is nothing left to be written."""
    while writer.step():
        pass
    ended = job(database, job_id)
    assert ended.output_leased_until is None, "nothing is left"
    return ended.output_error


@pytest.mark.parametrize("name", ["./scan.pdf.png", "a/../../etc/passwd.png", "bad.png"])
def test_a_name_that_no_store_holds_is_that_items_error(
    database: Database, writer: ItemWriter, puts: Puts, name: str
) -> None:
    items = [NewItem(0, "in", name), NewItem(1, "in", "b.zip", member=name), NewItem(2, "in", "c.png")]
    job_id = add_job(database, items, output=OUTPUT)
    settle_all(database, job_id, [{"text": "A"}] * 3)
    error = written(database, writer, job_id)
    assert puts.keys == ["in/results/c.png.json"]
    assert error["items"] == 2
    assert error["detail"].startswith("Outputs cannot be written, the first: ")


def test_the_error_of_an_item_stays_when_others_follow(
    database: Database, writer: ItemWriter, puts: Puts
) -> None:
    job_id = add_job(database, [NewItem(0, "in", "bad.png"), NewItem(1, "in", "b.png")], output=OUTPUT)
    settle_all(database, job_id, [{"text": "A"}])
    writer.step()
    settle_all(database, job_id, [{"text": "B"}])
    assert written(database, writer, job_id)["code"] == "input_not_found"
    assert puts.keys == ["in/results/b.png.json"]


@pytest.mark.parametrize("bucket", ["gone", "closed", "x"])
def test_a_bucket_that_a_line_has_misspelt_holds_up_no_other(
    database: Database, writer: ItemWriter, puts: Puts, bucket: str
) -> None:
    items = [NewItem(0, bucket, "bad.png" if bucket == "x" else "a.png"), NewItem(1, "in", "b.png")]
    job_id = add_job(database, items, output=OUTPUT)
    settle_all(database, job_id, [InputNotFound("there is none"), {"text": "B"}])
    assert written(database, writer, job_id)["items"] == 1
    assert puts.keys == ["in/results/b.png.json"]


@pytest.mark.parametrize(
    ("output", "key"),
    [
        ({"bucket": "ocr", "prefix": ""}, "batches/1/0.png"),
        ({"bucket": "ocr", "prefix": "/"}, "files/x/y"),
        ({"bucket": "ocr", "prefix": "exp"}, "orts/a.png"),
        ({"bucket": "ocr", "prefix": "uploads/"}, "somebody/a.png"),
        ({"bucket": "ocr", "prefix": ""}, "thumbnails\\a.png"),
        ({"bucket": "other", "prefix": ""}, "a.png"),
        ({"prefix": ""}, "a.png"),
    ],
)
def test_what_is_anothers_is_never_written_over(
    database: Database, writer: ItemWriter, puts: Puts, output: dict[str, Any], key: str
) -> None:
    allow(database, "scans", "ocr")
    job_id = add_job(
        database, [NewItem(0, "in", key), NewItem(1, "scans", "b.png")], output={"per_item": True, **output}
    )
    settle_all(database, job_id, [{"text": "A"}, {"text": "B"}])
    error = written(database, writer, job_id)
    assert error["code"] == DENIED
    assert not [one for one in puts.keys if key.replace("\\", "/") in one]
    allowed = output.get("bucket") != "other"
    own_prefix = output["prefix"] == "uploads/"
    assert len(puts.keys) == (allowed and not own_prefix)


# Exports


def export(
    database: Database, job_id: UUID, bucket: str, prefix: str, store: Kept, kind: str = "jsonl"
) -> dict[str, Any]:
    """An export that is over; our own bucket is `ours`."""
    with database.transaction() as session:
        asked = exports.NewExport(job_id, ExportFormat(kind), bucket, prefix)
        export_id = exports.create(session, tenant_id(session), "a-key", asked)
    run_all(database, store)
    return state(database, export_id)


@pytest.mark.parametrize(
    "prefix", ["batches/1/", "/batches/1/", "x/../batches/1/", "files\\1\\", "exports/other/"]
)
def test_an_export_takes_nothing_away_from_our_own_places(database: Database, prefix: str) -> None:
    store = Kept()
    job_id = ended_job(database, {"a.png": [{"text": "a"}]})
    kept = {("ours", f"{prefix}{name}"): b"x" for name in ("_SUCCESS", "manifest.jsonl", "a.png.jsonl")}
    store.objects.update(kept)
    ended = export(database, job_id, "ours", prefix, store)
    assert (ended["state"], ended["error"]["code"]) == ("failed", DENIED)
    assert store.objects == kept


def test_a_pdf_is_not_made_of_what_the_tenant_may_read_no_more(database: Database) -> None:
    store = Kept()
    store.objects["in", "a.png"] = NullBlobs.image
    read: dict[str, Any] = {"text": "a", "image": {"width": 32, "height": 32}, "regions": []}
    job_id = ended_job(database, {"a.png": [read]})
    assert export(database, job_id, "out", "x/", store, "pdf")["failed"] == 0
    allow(database, "out")
    assert export(database, job_id, "out", "y/", store, "pdf")["failed"] == 1
    (line,) = (orjson.loads(one) for one in store.objects["out", "y/manifest.jsonl"].splitlines())
    assert (line["output"], line["code"]) == (None, DENIED)


def test_an_export_to_its_own_place_is_written_whatever_the_rights(database: Database) -> None:
    allow(database, "scans")
    store = Kept()
    job_id = ended_job(database, {"a.png": [{"text": "a"}]})
    prefix = f"exports/{job_id}/jsonl/"
    assert export(database, job_id, "ours", prefix, store)["state"] == "completed"
    assert ("ours", f"{prefix}a.png.jsonl") in store.objects
    ended = export(database, job_id, "other", "x/", store)
    assert (ended["state"], ended["error"]["code"]) == ("failed", DENIED)


def test_a_key_that_falls_among_ours_is_that_inputs_error(database: Database) -> None:
    store = Kept()
    job_id = ended_job(database, {"batches/a.png": [{"text": "a"}], "b.png": [{"text": "b"}]})
    assert export(database, job_id, "ours", "", store)["state"] == "completed"
    lines = [orjson.loads(line) for line in store.objects["ours", "manifest.jsonl"].splitlines()]
    assert [(line["output"], line["code"]) for line in lines] == [(None, DENIED), ("b.png.jsonl", None)]
    assert ("ours", "batches/a.png.jsonl") not in store.objects


@pytest.mark.parametrize("name", ["./scan.pdf", "a.zip/../../etc/passwd.png", "refused.png"])
def test_a_name_that_no_store_holds_fails_that_input_alone(database: Database, name: str) -> None:
    store = Kept()
    store.refuse["refused"] = [BadName("the store answers 400, XMinioInvalidObjectName")]
    job_id = ended_job(database, {name: [{"text": "a"}], "b.png": [{"text": "b"}]})
    ended = export(database, job_id, "out", "x/", store)
    assert (ended["state"], ended["failed"]) == ("completed", 1)
    lines = [orjson.loads(line) for line in store.objects["out", "x/manifest.jsonl"].splitlines()]
    assert [line["output"] for line in lines] == [None, "b.png.jsonl"]
    assert ("out", "x/_SUCCESS") in store.objects
