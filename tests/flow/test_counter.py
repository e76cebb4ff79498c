"""Counting documents: their pages, the range that was asked for, and errors that stand for all of them."""

import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fleet_builders import add_job, check_record, job, pages, results, sql, wait_for
from images import encoded, noise
from tcp_proxy import TcpProxy

from ocrfleet import blobs
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.s3 import Fetched, S3Blobs
from ocrfleet.settings import Settings
from ocrfleet.store.expansion import NewItem
from producer.count import Counter

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture
def counter(database: Database, store: Blobs) -> Iterator[Counter]:
    counter = Counter(Settings(decode_processes=2, max_document_pages=5), database, store, turn_seconds=0.0)
    yield counter
    counter.close()


@pytest.fixture
def item(store: Blobs) -> Callable[..., NewItem]:
    """Puts a document into the store; the n-th item of a job."""

    def item(n: int, data: bytes, **members: Any) -> NewItem:
        key = f"count/{uuid4().hex}-{n}"
        store.put("ocr", key, data, "application/octet-stream")
        return NewItem(n, "ocr", key, countable=True, **members)

    return item


Item = Callable[..., NewItem]


def document(count: int, kind: str = "PDF") -> bytes:
    return encoded(noise(1), kind, *(noise(n) for n in range(2, count + 1)))


def test_pages_are_those_of_the_document_or_those_asked_for(
    database: Database, counter: Counter, item: Item
) -> None:
    given = [
        item(0, document(3)),
        item(1, document(4, "TIFF")),
        item(2, encoded(noise(1))),
        item(3, document(5), options={"pages": "2-3,5-9"}),
        item(4, encoded(noise(1), "GIF")),
    ]
    job_id = add_job(database, given, options={"pages": "1-4"})
    assert counter.step() == 5
    found = pages(database, job_id)
    assert [(page.ordinal, page.number) for page in found] == [
        *((0, n) for n in (1, 2, 3)),
        *((1, n) for n in (1, 2, 3, 4)),
        (2, 1),
        *((3, n) for n in (2, 3, 5)),
        (4, 1),
    ]
    assert {page.state for page in found} == {"ready"}
    done = job(database, job_id)
    assert (done.total, done.items_pending) == (12, 0)
    assert done.expanded_at is not None
    # What was counted is what will be read.
    assert all(row.etag for row in sql(database, "SELECT etag FROM items"))
    assert counter.step() == 0


def test_an_error_stands_for_all_pages_of_its_document(
    database: Database, counter: Counter, item: Item
) -> None:
    given = {
        "encrypted_pdf": item(0, (SAMPLES / "encrypted.pdf").read_bytes()),
        "corrupt_file": item(1, b"%PDF-1.7\n" + b"x" * 500),
        "too_many_pages": item(2, document(6)),
        "validation_failed": item(3, document(2), options={"pages": "3"}),
        "empty_file": item(4, b""),
        "unsupported_media_type": item(5, b"no image at all"),
        "input_not_found": NewItem(6, "ocr", f"count/{uuid4().hex}.pdf", countable=True),
        "input_changed": item(7, document(2), etag="0" * 32),
    }
    job_id = add_job(database, [*given.values(), item(8, document(2))])
    assert counter.step() == 8, "a few of each job at a time"
    assert counter.step() == 1
    found = {line["key"]: line["error"] for line in results(database, job_id)}
    assert {key: error["code"] for key, error in found.items()} == {
        one.key: code for code, one in given.items()
    }
    limit = found[given["too_many_pages"].key]
    assert (limit["limit"], limit["actual"]) == (5, 6)
    states = [(page.ordinal, page.number, page.state) for page in pages(database, job_id)]
    assert states == [*((n, 0, "dead") for n in range(8)), (8, 1, "ready"), (8, 2, "ready")]
    assert all(line["page"] is None for line in results(database, job_id))
    check_record(database, job_id)


def test_a_store_that_is_away_postpones_the_count(database: Database, s3: Settings, item: Item) -> None:
    job_id = add_job(database, [item(0, document(2))])
    with TcpProxy(s3.store_url) as proxy:
        far = blobs.connect(s3.model_copy(update={"store_url": proxy.url, "store_timeout": 2.0}))
        counter = Counter(Settings(decode_processes=1), database, far)
        proxy.cut()
        assert counter.step() == 1
        assert counter.step() == 0, "not at once"
        assert job(database, job_id).items_pending == 1
        proxy.restore()
        sql(database, "UPDATE items SET leased_until = now()")
        assert counter.step() == 1
        counter.close()
    assert len(pages(database, job_id)) == 2


def test_a_disk_without_room_postpones_the_count(
    database: Database, counter: Counter, item: Item, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = add_job(database, [item(0, document(2))])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    for _ in range(3):
        assert counter.step() == 1
        assert job(database, job_id).items_pending == 1
        sql(database, "UPDATE items SET leased_until = now()")
    monkeypatch.undo()
    assert counter.step() == 1
    assert len(pages(database, job_id)) == 2


class SlowBlobs(S3Blobs):
    """The real store, so slow that somebody else counts the item meanwhile."""

    def __init__(self, settings: Settings, meanwhile: Callable[[], object]) -> None:
        super().__init__(settings)
        self._meanwhile = meanwhile

    def fetch(
        self, bucket: str, key: str, *, max_bytes: int, etag: str | None = None, version_id: str | None = None
    ) -> Fetched:
        self._meanwhile()
        return super().fetch(bucket, key, max_bytes=max_bytes, etag=etag, version_id=version_id)


def test_an_item_counted_by_two_has_its_pages_once(
    database: Database, counter: Counter, s3: Settings, item: Item
) -> None:
    def other_counts() -> None:
        sql(database, "UPDATE items SET leased_until = now()")
        assert counter.step() == 1

    job_id = add_job(database, [item(0, document(3))])
    slow = Counter(Settings(decode_processes=1), database, SlowBlobs(s3, other_counts))
    assert slow.step() == 1
    slow.close()
    assert [page.number for page in pages(database, job_id)] == [1, 2, 3]
    assert job(database, job_id).total == 3
    check_record(database, job_id)


def test_an_item_is_leased_for_as_long_as_it_waits_and_is_counted(
    database: Database, s3: Settings, item: Item
) -> None:
    def ends() -> list[datetime]:
        return [row.leased_until for row in sql(database, "SELECT leased_until FROM items ORDER BY id")]

    def wait() -> None:
        if not renewed:
            before = ends()
            wait_for(lambda: all(new > old for new, old in zip(ends(), before, strict=True)))
            renewed.append(True)

    renewed = list[bool]()
    add_job(database, [item(0, encoded(noise(1))), item(1, encoded(noise(2)))])
    slow = Counter(Settings(decode_processes=1), database, SlowBlobs(s3, wait), lease_seconds=0.9)
    assert slow.step() == 2
    slow.close()
    assert renewed


def test_while_one_is_counted_long_others_are_leased_and_counted(
    database: Database, s3: Settings, item: Item
) -> None:
    waiting = [True]

    def wait_once() -> None:
        if waiting:
            waiting.clear()
            wait_for(lambda: len(pages(database, job_id)) == 11)

    job_id = add_job(database, [item(n, encoded(noise(n))) for n in range(12)])
    blobs = SlowBlobs(s3, wait_once)
    counter = Counter(Settings(decode_processes=2), database, blobs, turn_seconds=60.0)
    assert counter.step() == 12
    counter.close()
    assert len(pages(database, job_id)) == 12
    check_record(database, job_id)


def test_a_job_does_not_hold_up_the_count_of_another(
    database: Database, counter: Counter, item: Item
) -> None:
    first = add_job(database, [item(n, encoded(noise(n))) for n in range(12)])
    second = add_job(database, [item(0, document(2))])
    counter.step()
    assert len(pages(database, first)) == 8
    assert len(pages(database, second)) == 2
