"""The main road with real processes: objects in the store become results that are theirs, or say why there are none."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from fleet_builders import check_record, job, results, sql, tenant_id, wait_for
from images import encoded, noise, pixel_hash

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.documents import Limits
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.sandbox import Sandbox
from ocrfleet.settings import Settings
from ocrfleet.states import Lane
from ocrfleet.store import control, jobs

SAMPLES = Path(__file__).parents[2] / "samples"
PATIENCE = 120.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    # At most about 300 pages/s, on any machine: what is tested while a job runs must find it running.
    slow = {"OCRFLEET_NULL_LATENCY": "0.05", "OCRFLEET_NULL_IN_FLIGHT": "4"}
    services = ("producer", "worker-1", "worker-2")
    with Fleet(folder, engine="null", services=services, extra=slow) as fleet:
        yield fleet


def put(bucket: Blobs, key: str, data: bytes) -> None:
    bucket.put("ocr", key, data, "application/octet-stream")


def submit(database: Database, given: dict[str, Any], **members: Any) -> UUID:
    job_id = uuid4()
    with database.transaction() as session:
        jobs.create(session, jobs.NewJob(job_id, tenant_id(session), "text", given, **members))
    return job_id


def finish(database: Database, job_id: UUID) -> list[dict[str, Any]]:
    """Wait for the job's end, its counts summing up at every look; returns its result lines."""

    def is_done() -> bool:
        with database.transaction() as session:
            row = jobs.get(session, tenant_id(session), job_id)
        assert row is not None
        states = ("outstanding", "succeeded", "dead", "canceled")
        assert sum(row[state] for state in states) == row["total"]
        return row["finished_at"] is not None

    wait_for(is_done, PATIENCE)
    check_record(database, job_id)
    return results(database, job_id)


def rendered_hashes(data: bytes, folder: Path) -> dict[int, str]:
    """By page, what the null engine should say of a document, by a rendering of our own."""
    path = folder / uuid4().hex
    path.write_bytes(data)
    with Sandbox(1, Limits.of(Settings())) as sandbox:
        numbers = range(1, sandbox.count(path).pages + 1)
        return {n: hashlib.sha256(sandbox.render(path, n).pixels).hexdigest() for n in numbers}


def test_every_object_below_a_prefix_has_its_own_text_or_its_own_error(
    fleet: Fleet, record: Database, bucket: Blobs, tmp_path: Path
) -> None:
    expected: dict[tuple[str, int | None], str] = {}
    for n in range(40):
        kind = ("PNG", "JPEG", "WEBP", "BMP")[n % 4]
        data = encoded(noise(n), kind)
        key = f"scans/{n}.{kind.lower()}"
        put(bucket, key, data)
        expected[key, 1] = pixel_hash(data)
    documents = {
        "scans/doc/three.pdf": encoded(noise(101), "PDF", noise(102), noise(103)),
        "scans/doc/four.tiff": encoded(noise(111), "TIFF", noise(112), noise(113), noise(114)),
        "scans/doc/no-suffix": encoded(noise(121), "PDF", noise(122)),
        "scans/doc/disguised.jpg": encoded(noise(131), "PDF", noise(132), noise(133)),
        "scans/doc/sample.pdf": (SAMPLES / "report-text.pdf").read_bytes(),
    }
    for key, data in documents.items():
        put(bucket, key, data)
        expected |= {(key, page): text for page, text in rendered_hashes(data, tmp_path).items()}
    broken = {
        "scans/bad/encrypted.pdf": (SAMPLES / "encrypted.pdf").read_bytes(),
        "scans/bad/corrupt.pdf": b"%PDF-1.4\n" + b"nothing of the kind " * 100,
        "scans/bad/empty.pdf": b"",
        "scans/bad/truncated.jpg": (SAMPLES / "truncated.jpg").read_bytes(),
        "scans/bad/page.png": b"<html>404</html>",
    }
    for key, data in broken.items():
        put(bucket, key, data)
    expected |= {
        ("scans/bad/encrypted.pdf", None): "encrypted_pdf",
        ("scans/bad/corrupt.pdf", None): "corrupt_file",
        ("scans/bad/empty.pdf", None): "empty_file",
        # Taken for single images by their names, they fail as their only page.
        ("scans/bad/truncated.jpg", 1): "corrupt_file",
        ("scans/bad/page.png", 1): "unsupported_media_type",
    }
    put(bucket, "scans/notes.txt", b"not wanted")
    put(bucket, "other/1.png", encoded(noise(1)))
    given = {"type": "prefix", "bucket": "ocr", "prefix": "scans/", "exclude": ["*.txt"]}
    lines = finish(record, job_id := submit(record, given))
    found = {(line["key"], line["page"]): line.get("text") or line["error"]["code"] for line in lines}
    assert found == expected
    assert len(lines) == len(expected), "each once"
    assert len(set(found.values())) == len(found) - 1, "no page has another's text (two files are corrupt)"
    done = job(record, job_id)
    assert (done.state, done.outcome, done.dead, done.items_total) == ("completed", "partial", 5, 50)
    errors = sql(record, "SELECT code, pages FROM job_errors WHERE job_id = :job ORDER BY code", job=job_id)
    assert [tuple(row) for row in errors] == [
        ("corrupt_file", 2),
        ("empty_file", 1),
        ("encrypted_pdf", 1),
        ("unsupported_media_type", 1),
    ]
    assert set(fleet.pids) >= {"worker-1", "worker-2"}


def test_a_manifest_of_thousands_of_lines_ends_line_by_line(
    record: Database, bucket: Blobs, tmp_path: Path
) -> None:
    images = {f"many/{n}.png": encoded(noise(n, (40, 40))) for n in range(8)}
    document = encoded(noise(201), "PDF", noise(202), noise(203))
    for key, data in images.items():
        put(bucket, key, data)
    put(bucket, "many/three.pdf", document)
    keys = list(images)
    lines: list[bytes] = [
        orjson.dumps({"key": keys[n % len(keys)], "custom_id": f"line-{n}"}) for n in range(2100)
    ]
    lines[10] = b'{"key": 7}'
    lines[20] = b""
    lines[1500] = b"no JSON"
    lines[1600] = orjson.dumps({"key": "many/missing.png", "custom_id": "missing"})
    lines[1700] = orjson.dumps({"key": "many/three.pdf", "custom_id": "two", "pages": "2-3"})
    lines[1800] = orjson.dumps({"key": "many/three.pdf", "custom_id": "beyond", "pages": "4"})
    lines[1900] = orjson.dumps({"key": keys[0], "etag": "0" * 32, "custom_id": "changed"})
    lines[2000] = orjson.dumps({"bucket": "elsewhere", "key": "a.pdf", "custom_id": "elsewhere"})
    put(bucket, "m.jsonl", b"\n".join(lines))
    job_id = submit(record, {"type": "manifest", "bucket": "ocr", "key": "m.jsonl"})
    found = finish(record, job_id)
    dead = {
        (line["custom_id"] or line["key"], line["page"]): line["error"] for line in found if "error" in line
    }
    assert {which: error["code"] for which, error in dead.items()} == {
        ("line 11", None): "manifest_invalid",
        ("line 1501", None): "manifest_invalid",
        ("missing", 1): "input_not_found",
        ("beyond", None): "validation_failed",
        ("changed", 1): "input_changed",
        ("elsewhere", None): "input_not_found",
    }
    assert dead["line 11", None]["line"] == 11
    good = {(line["custom_id"], line["page"]): line["text"] for line in found if "text" in line}
    expected = {f"line-{n}": images[keys[n % len(keys)]] for n in range(2100)}
    hashes = {data: pixel_hash(data) for data in images.values()}
    replaced = {f"line-{n}" for n in (10, 20, 1500, 1600, 1700, 1800, 1900, 2000)}
    pages = rendered_hashes(document, tmp_path)
    assert good == {
        **{(name, 1): hashes[data] for name, data in expected.items() if name not in replaced},
        ("two", 2): pages[2],
        ("two", 3): pages[3],
    }
    done = job(record, job_id)
    assert (done.state, done.outcome, done.total, done.dead) == ("completed", "partial", 2100, 6)


def test_objects_given_inline_keep_their_order_and_their_options(record: Database, bucket: Blobs) -> None:
    data = encoded(noise(301), "PDF", noise(302), noise(303))
    put(bucket, "inline/a.pdf", data)
    put(bucket, "inline/b.png", encoded(noise(304)))
    objects = [
        {"bucket": "ocr", "key": "inline/b.png", "custom_id": "first"},
        {"bucket": "ocr", "key": "inline/a.pdf", "custom_id": "second", "options": {"pages": "1,3"}},
        {"bucket": "ocr", "key": "inline/a.pdf", "custom_id": "third"},
    ]
    given = {"type": "objects", "bucket": "ocr", "objects": objects}
    lines = finish(record, submit(record, given, options={"pages": "1"}))
    found = sorted((line["custom_id"], line["page"]) for line in lines)
    # An object's own options go before the job's.
    assert found == [("first", 1), ("second", 1), ("second", 3), ("third", 1)]


def test_a_job_without_pages_is_complete(record: Database) -> None:
    job_id = submit(record, {"type": "prefix", "bucket": "ocr", "prefix": "there/is/nothing/"})
    assert finish(record, job_id) == []
    done = job(record, job_id)
    assert (done.state, done.total) == ("completed", 0)


def test_a_job_whose_input_cannot_be_read_has_failed_and_says_why(record: Database) -> None:
    job_id = submit(record, {"type": "manifest", "bucket": "ocr", "key": "no-such.jsonl"})
    assert finish(record, job_id) == []
    done = job(record, job_id)
    assert (done.state, done.outcome, done.error["code"]) == ("failed", "failed", "input_not_found")


def test_an_interactive_page_is_done_while_a_bulk_job_waits(record: Database, bucket: Blobs) -> None:
    data = encoded(noise(401))
    put(bucket, "interactive/one.png", data)
    put(bucket, "bulk/1.png", encoded(noise(402, (400, 400))))
    lines = b'{"key":"bulk/1.png"}\n' * 800
    put(bucket, "bulk.jsonl", lines)
    bulk = submit(record, {"type": "manifest", "bucket": "ocr", "key": "bulk.jsonl"})
    wait_for(lambda: job(record, bulk).succeeded > 0, PATIENCE)
    job_id = uuid4()
    info = bucket.stat("ocr", "interactive/one.png")
    with record.transaction() as session:
        single = jobs.NewJob(job_id, tenant_id(session), "text", {"type": "object"}, lane=Lane.INTERACTIVE)
        jobs.create_single(session, single, bucket="ocr", key=info.key, etag=info.etag)
    (line,) = finish(record, job_id)
    assert line["text"] == pixel_hash(data)
    assert job(record, bulk).state == "running", "it did not wait for the bulk job's end"
    assert len(finish(record, bulk)) == 800


def test_a_canceled_job_ends_and_others_do_not(record: Database, bucket: Blobs) -> None:
    put(bucket, "cancel/1.png", encoded(noise(501)))
    put(bucket, "cancel.jsonl", b'{"key":"cancel/1.png"}\n' * 3000)
    put(bucket, "keep.jsonl", b'{"key":"cancel/1.png"}\n' * 200)
    canceled, kept = (
        submit(record, {"type": "manifest", "bucket": "ocr", "key": key})
        for key in ("cancel.jsonl", "keep.jsonl")
    )
    wait_for(lambda: job(record, canceled).succeeded > 0, PATIENCE)
    with record.transaction() as session:
        control.cancel(session, tenant_id(session), canceled)
    lines = finish(record, canceled)
    done = job(record, canceled)
    assert done.state == "canceled"
    assert done.canceled > 0
    assert len(lines) == done.succeeded
    assert len(finish(record, kept)) == 200
    assert job(record, kept).outcome == "succeeded"
