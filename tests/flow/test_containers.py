"""Archives as inputs: an item for each file in them, counted, read, told with its path, and never twice."""

import gzip
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from fleet_builders import add_job, check_record, job, pages, results, send, sql
from images import encoded, noise, pixel_hash
from zips import encrypted, tarred, zipped

from ocrfleet.blobs import Blobs, S3Blobs
from ocrfleet.db import Database
from ocrfleet.s3 import Fetched
from ocrfleet.settings import Settings
from ocrfleet.store import containers, counting
from ocrfleet.store.expansion import NewItem
from producer.count import Counter
from worker.engines.null import NullEngine
from worker.runner import Runner

Put = Callable[[bytes, str], str]


class CountingBlobs(S3Blobs):
    """The real store, and how often each key was fetched."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.fetched: list[str] = []

    def fetch(self, bucket: str, key: str, **given: Any) -> Fetched:  # type: ignore[override]
        self.fetched.append(key)
        return super().fetch(bucket, key, **given)


@pytest.fixture
def put(store: Blobs) -> Put:
    def put(data: bytes, name: str) -> str:
        key = f"containers/{uuid4().hex}-{name}"
        store.put("ocr", key, data, "application/octet-stream")
        return key

    return put


@pytest.fixture
def far(s3: Settings) -> CountingBlobs:
    return CountingBlobs(s3)


@pytest.fixture
def counter(database: Database, far: CountingBlobs) -> Iterator[Counter]:
    counter = Counter(Settings(decode_processes=1), database, far)
    yield counter
    counter.close()


def count_all(counter: Counter) -> None:
    while counter.step():
        pass


def document(count: int) -> bytes:
    return encoded(noise(1), "PDF", *(noise(n) for n in range(2, count + 1)))


FILES = {
    "a.png": encoded(noise(1)),
    "b/c.pdf": document(3),
    "notes.txt": b"no image",
    "inner.zip": zipped({"a": b""}),
}


@pytest.mark.parametrize(
    "made", [zipped, tarred, lambda files: tarred(files, "w:gz")], ids=["zip", "tar", "tar.gz"]
)
def test_an_archive_becomes_an_item_for_each_file_in_it(
    database: Database, counter: Counter, far: CountingBlobs, put: Put, made: Callable[..., bytes]
) -> None:
    key = put(made(FILES), "scans")
    given = [NewItem(0, "ocr", key, custom_id="box-7", options={"cache": False}, countable=True)]
    job_id = add_job(database, [*given, NewItem(1, "ocr", "after.png")])
    count_all(counter)
    rows = sql(
        database,
        "SELECT * FROM items WHERE job_id = :job AND key = :key ORDER BY ordinal",
        job=job_id,
        key=key,
    )
    assert [(row.member, row.state, row.page_count) for row in rows] == [
        ("a.png", "counted", None),
        ("b/c.pdf", "counted", 3),
        ("notes.txt", "failed", 0),
        ("inner.zip", "failed", 0),
    ]
    assert {row.custom_id for row in rows} == {"box-7"}
    assert [row.options for row in rows] == [{"cache": False}] * 4
    assert len({row.etag for row in rows}) == 1
    assert [row.bytes for row in rows] == [len(data) for data in FILES.values()]
    numbers = [(page.key == key, page.number, page.state) for page in pages(database, job_id)]
    assert sorted(numbers) == [
        (False, 1, "ready"),
        (True, 0, "dead"),
        (True, 0, "dead"),
        (True, 1, "ready"),
        (True, 1, "ready"),
        (True, 2, "ready"),
        (True, 3, "ready"),
    ]
    lines = results(database, job_id)
    assert {(line["member"], line["error"]["code"]) for line in lines} == {
        ("notes.txt", "unsupported_media_type"),
        ("inner.zip", "unsupported_media_type"),
    }
    done = job(database, job_id)
    assert (done.items_total, done.items_pending, done.total) == (5, 0, 7)
    assert done.expanded_at is not None
    check_record(database, job_id)
    assert far.fetched.count(key) <= 2, "once to be listed, and once for all the documents in it"


def test_a_worker_reads_what_is_in_an_archive_that_it_fetches_once(
    database: Database,
    counter: Counter,
    far: CountingBlobs,
    put: Put,
    start_runner: Callable[..., Runner],
) -> None:
    key = put(zipped({f"{n}.png": encoded(noise(n)) for n in range(4)} | {"c.pdf": document(2)}), "a.zip")
    job_id = add_job(database, [NewItem(0, "ocr", key, countable=True)])
    count_all(counter)
    far.fetched.clear()
    runner = start_runner(NullEngine(Settings()), store=far)
    assert runner.run(send(database, job_id)) == 6
    lines = results(database, job_id)
    assert {line["state"] for line in lines} == {"succeeded"}
    assert sorted((line["member"], line["page"]) for line in lines) == [
        *((f"{n}.png", 1) for n in range(4)),
        ("c.pdf", 1),
        ("c.pdf", 2),
    ]
    texts = {line["member"]: line["text"] for line in lines}
    assert [texts[f"{n}.png"] for n in range(4)] == [pixel_hash(encoded(noise(n))) for n in range(4)]
    assert far.fetched == [key]
    assert job(database, job_id).outcome == "succeeded"


def test_a_gzipped_tar_is_inflated_once_by_who_counts_and_who_reads(
    database: Database,
    far: CountingBlobs,
    put: Put,
    start_runner: Callable[..., Runner],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = tarred({"a.png": encoded(noise(1)), "b.pdf": document(2)})
    key = put(data := gzip.compress(made), "a.tar.gz")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    counter = Counter(Settings(decode_processes=1), database, far)
    runner = start_runner(NullEngine(Settings()), store=far)
    job_id = add_job(database, [NewItem(0, "ocr", key, countable=True)])
    count_all(counter)
    assert runner.run(send(database, job_id)) == 3
    assert {line["state"] for line in results(database, job_id)} == {"succeeded"}
    on_disk = [path.read_bytes() for path in tmp_path.glob("ocrfleet-documents-*/*")]
    assert on_disk.count(made) == 2
    assert data not in on_disk
    counter.close()


def test_an_archive_with_nothing_to_read_is_one_dead_letter(
    database: Database, counter: Counter, put: Put
) -> None:
    key = put(zipped({"__MACOSX/._a": b"x"}), "empty.zip")
    job_id = add_job(database, [NewItem(0, "ocr", key, countable=True)])
    count_all(counter)
    (line,) = results(database, job_id)
    assert (line["error"]["code"], line["page"]) == ("empty_file", None)
    assert "member" not in line or line["member"] is None
    assert job(database, job_id).state == "completed"
    check_record(database, job_id)


def test_a_member_that_cannot_be_read_costs_no_other(database: Database, counter: Counter, put: Put) -> None:
    files = {"a.png": encoded(noise(1)), "b.png": encoded(noise(2)), "../c.png": b"x"}
    key = put(encrypted(zipped(files), "b.png"), "a.zip")
    job_id = add_job(database, [NewItem(0, "ocr", key, countable=True)])
    count_all(counter)
    found = {line["member"]: line["error"]["code"] for line in results(database, job_id)}
    assert found == {"b.png": "encrypted_archive", "../c.png": "corrupt_file"}
    assert [page.state for page in pages(database, job_id)].count("ready") == 1
    check_record(database, job_id)


def test_an_archive_unpacked_by_two_is_unpacked_once(database: Database, counter: Counter, put: Put) -> None:
    key = put(zipped({"a.png": b"x", "b.png": b"x"}), "a.zip")
    job_id = add_job(database, [NewItem(0, "ocr", key, countable=True)])
    with database.transaction() as session:
        (late,) = counting.lease_items(session, 10, 0.0)
    count_all(counter)
    members = [NewItem(n, "ocr", key, member=f"{n}.png") for n in range(3)]
    with database.transaction() as session:
        assert not containers.unpack(session, late, members)
    with database.transaction() as session:
        assert not containers.unpack(session, late, [])
    assert job(database, job_id).items_total == 2
    check_record(database, job_id)


def test_the_items_of_a_canceled_job_are_not_unpacked(database: Database, put: Put) -> None:
    key = put(zipped({"a.png": b"x"}), "a.zip")
    job_id = add_job(database, [NewItem(0, "ocr", key, countable=True)])
    with database.transaction() as session:
        (late,) = counting.lease_items(session, 10, 0.0)
    sql(database, "UPDATE jobs SET state = 'canceling'")
    with database.transaction() as session:
        assert not containers.unpack(session, late, [NewItem(0, "ocr", key, member="a.png")])
    assert pages(database, job_id) == []


def test_members_whose_results_are_there_are_left_out_and_so_is_an_archive_of_them_alone(
    database: Database, counter: Counter, put: Put, store: Blobs
) -> None:
    prefix = f"results-{uuid4().hex}/"
    output = {"per_item": True, "prefix": prefix, "on_existing": "skip"}
    some, all_ = put(zipped({"a.png": b"x", "b.png": b"x"}), "1.zip"), put(zipped({"a.png": b"x"}), "2.zip")
    for key in (f"{some}/a.png", f"{all_}/a.png"):
        store.put("ocr", f"{prefix}{key}.json", b"{}", "application/json")
    given = [NewItem(n, "ocr", key, countable=True) for n, key in enumerate((some, all_))]
    job_id = add_job(database, given, output=output)
    count_all(counter)
    rows = sql(database, "SELECT key, member FROM items WHERE job_id = :job", job=job_id)
    assert [tuple(row) for row in rows] == [(some, "b.png")]
    done = job(database, job_id)
    assert (done.items_total, done.items_pending, done.total) == (1, 0, 1)
    check_record(database, job_id)
