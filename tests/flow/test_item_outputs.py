"""Outputs per item, as pages end: whole, once, again after a redrive; and what holds them up."""

from collections.abc import Iterator
from typing import Any

import pytest
from fleet_builders import add_job, job, sql, tenant_id
from fleet_rig import settle_all
from outputs_rig import OUTPUT, MemoryBlobs, items, said, work

from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile, InputAccessDenied, StorageUnavailable
from ocrfleet.s3 import BlobInfo
from ocrfleet.settings import Settings
from ocrfleet.store import item_outputs, redrives
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.letters import LetterFilter
from ocrfleet.store.redrives import NewRedrive
from producer.item_outputs import ItemWriter


@pytest.fixture
def store() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
def writer(database: Database, store: MemoryBlobs) -> Iterator[ItemWriter]:
    writer = ItemWriter(Settings(), database, store)
    yield writer
    writer.close()


def test_each_item_is_written_when_its_page_has_ended(
    database: Database, writer: ItemWriter, store: MemoryBlobs
) -> None:
    job_id = add_job(database, items("in/a.png", "b.png"), output=OUTPUT)
    quiet = add_job(database, items("c.png"))
    work(writer, database)
    assert store.puts == []
    settle_all(database, job_id, [{"text": "A"}])
    settle_all(database, quiet, [{"text": "C"}])
    work(writer, database)
    assert store.puts == ["results/in/a.png.json"]
    settle_all(database, job_id, [CorruptFile("torn")])
    work(writer, database)
    assert store.puts == ["results/in/a.png.json", "results/b.png.json"]
    first, second = store.json("results/in/a.png.json"), store.json("results/b.png.json")
    assert list(first) == ["job_id", "item_id", "custom_id", "bucket", "key", "etag", "pages"]
    assert (first["job_id"], first["custom_id"], first["key"], first["etag"]) == (
        str(job_id),
        "c0",
        "in/a.png",
        "e1",
    )
    assert [(page["page"], page["text"]) for page in first["pages"]] == [(1, "A")]
    assert [page["error"]["code"] for page in second["pages"]] == ["corrupt_file"]
    done = job(database, job_id)
    assert (done.output_seq, done.output_leased_until, done.output_error) == (2, None, None)


def test_pages_are_in_order_however_they_ended_and_nothing_is_written_before_the_last(
    database: Database, writer: ItemWriter, store: MemoryBlobs
) -> None:
    job_id = add_job(database, items("a.pdf"), output=OUTPUT)
    sql(database, "UPDATE jobs SET total = 450 WHERE id = :job", job=job_id)
    query = """
        INSERT INTO pages (item_id, job_id, number, not_before)
        SELECT id, job_id, n, now() - make_interval(secs => n) FROM items, generate_series(2, 450) n"""
    sql(database, query)
    settle_all(database, job_id, [{"text": f"{n}"} for n in range(449)])
    work(writer, database)
    assert store.puts == []
    settle_all(database, job_id, [{"text": "last"}])
    work(writer, database)
    assert store.puts == ["results/a.pdf.json"], "once"
    pages = store.json("results/a.pdf.json")["pages"]
    assert [page["page"] for page in pages] == list(range(1, 451))
    assert sorted(page["seq"] for page in pages) == list(range(1, 451))


def test_each_end_of_an_item_is_written_once_however_small_the_chunks(
    database: Database, writer: ItemWriter, store: MemoryBlobs
) -> None:
    job_id = add_job(database, items("a.pdf"), output=OUTPUT)
    query = (
        "INSERT INTO pages (item_id, job_id, number) SELECT id, job_id, n FROM items, generate_series(2, 3) n"
    )
    sql(database, query)
    sql(database, "UPDATE jobs SET total = 3 WHERE id = :job", job=job_id)
    settle_all(database, job_id, [{"text": f"{n}"} for n in range(3)])
    with database.transaction() as session:
        leased = item_outputs.lease(session, 60)
        assert leased
        assert item_outputs.chunk(session, leased, 2) == (2, []), "its last result is not among them"
    work(writer, database)
    assert store.puts == ["results/a.pdf.json"]


def test_members_of_an_archive_lie_below_its_key(
    database: Database, writer: ItemWriter, store: MemoryBlobs
) -> None:
    job_id = add_job(
        database, items("a.zip", member="x/y.png"), output=OUTPUT | {"bucket": "out", "prefix": ""}
    )
    settle_all(database, job_id, [{"text": "A"}])
    work(writer, database)
    assert store.json("a.zip/x/y.png.json", "out")["member"] == "x/y.png"


def test_a_page_that_was_redriven_writes_its_item_anew(
    database: Database, writer: ItemWriter, store: MemoryBlobs
) -> None:
    job_id = add_job(database, items("a.png"), output=OUTPUT)
    settle_all(database, job_id, [CorruptFile("torn")])
    work(writer, database)
    assert job(database, job_id).output_leased_until is None
    with database.transaction() as session:
        asked = NewRedrive(tenant_id(session), LetterFilter(job_id=job_id), {}, None, None)
        redrives.create(session, asked, "k")
    settle_all(database, job_id, [{"text": "A"}])
    work(writer, database)
    assert [page["state"] for page in store.json("results/a.png.json")["pages"]] == ["succeeded"]
    assert len(store.puts) == 2


class Killed(BaseException):
    """Passes everything, as a kill would."""


def test_a_crash_after_writing_repeats_the_same_bytes(
    database: Database, writer: ItemWriter, store: MemoryBlobs
) -> None:
    class Dying(MemoryBlobs):
        def put(self, bucket: str, key: str, data: Any, content_type: str) -> BlobInfo:  # noqa: ANN401
            super().put(bucket, key, data, content_type)
            raise Killed

    job_id = add_job(database, items("a.png"), output=OUTPUT)
    settle_all(database, job_id, [{"text": "A"}])
    dead = Dying()
    dying = ItemWriter(Settings(), database, dead)
    with pytest.raises(Killed):
        dying.step()
    dying.close()
    assert not writer.step(), "its lease runs on"
    work(writer, database)
    assert store.kept == dead.kept
    assert len(store.kept) == 1


def test_what_a_bucket_refuses_is_said_and_holds_up_nothing_else(
    database: Database, writer: ItemWriter, store: MemoryBlobs
) -> None:
    store.moods["closed"] = InputAccessDenied("no")
    mixed = [NewItem(n, ("closed", "ocr")[n % 2], f"{n}.png") for n in range(4)]
    job_id = add_job(database, mixed, output=OUTPUT)
    other = add_job(database, items("b.png"), output=OUTPUT | {"bucket": "closed"})
    for ended in (2, 2):
        settle_all(database, job_id, [{"text": "A"}] * ended)
        work(writer, database)
    settle_all(database, other, [{"text": "B"}])
    work(writer, database)
    assert sorted(store.puts) == ["results/1.png.json", "results/3.png.json"]
    error = said(database, job_id)["error"]
    assert (error["code"], error["items"]) == ("input_access_denied", 2)
    for one in (job_id, other):
        done = job(database, one)
        assert (done.state, done.output_seq, done.output_leased_until) == ("completed", done.total, None)


def test_a_store_that_is_away_is_waited_for(
    database: Database, writer: ItemWriter, store: MemoryBlobs
) -> None:
    store.moods["ocr"] = StorageUnavailable("away")
    job_id = add_job(database, items("a.png"), output=OUTPUT)
    settle_all(database, job_id, [{"text": "A"}])
    assert writer.step()
    assert not writer.step(), "not at once"
    assert said(database, job_id)["error"]["code"] == "storage_unavailable"
    store.moods.clear()
    work(writer, database)
    assert store.puts == ["results/a.png.json"]


def test_a_key_that_no_store_can_hold_is_said_and_the_rest_is_written(
    database: Database, writer: ItemWriter, store: MemoryBlobs
) -> None:
    job_id = add_job(database, items("a" * 1020, "b.png"), output=OUTPUT)
    settle_all(database, job_id, [{"text": "A"}, {"text": "B"}])
    work(writer, database)
    assert store.puts == ["results/b.png.json"]
    assert "1024 bytes" in said(database, job_id)["error"]["detail"]
    assert job(database, job_id).output_leased_until is None
