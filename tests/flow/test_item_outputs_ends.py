"""Outputs per item where a job ends otherwise than page by page: canceled, failed, deleted; and faults of our own."""

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from fleet_builders import add_job, add_worker, job, send, sql, tenant_id
from fleet_rig import settle_all
from outputs_rig import OUTPUT, MemoryBlobs, items, work
from sqlalchemy.orm import Session

from ocrfleet.db import Database
from ocrfleet.errors import DeadlineExceeded, Internal
from ocrfleet.s3 import BlobInfo
from ocrfleet.settings import Settings
from ocrfleet.states import PageState
from ocrfleet.store import control, pages, purge
from ocrfleet.store.settle import Settlement, settle
from producer.item_outputs import ItemWriter

Start = Callable[[MemoryBlobs], ItemWriter]
End = Callable[[Session, UUID], object]


@pytest.fixture
def start(database: Database) -> Iterator[Start]:
    writers: list[ItemWriter] = []

    def begin(store: MemoryBlobs) -> ItemWriter:
        writers.append(ItemWriter(Settings(), database, store))
        return writers[-1]

    yield begin
    for writer in writers:
        writer.close()


def cancel(session: Session, job_id: UUID) -> None:
    control.cancel(session, tenant_id(session), job_id)


def expire(session: Session, job_id: UUID) -> None:
    control.cancel(session, tenant_id(session), job_id, DeadlineExceeded)


def fail(session: Session, job_id: UUID) -> None:
    control.fail(session, job_id, Internal("x"))


def document(database: Database, count: int, *others: str) -> UUID:
    """A job of one document with so many pages, and of other objects."""
    job_id = add_job(database, items("a.pdf", *others), output=OUTPUT)
    query = """
        INSERT INTO pages (item_id, job_id, number)
        SELECT id, job_id, n FROM items, generate_series(2, :count) n WHERE ordinal = 0"""
    sql(database, query, count=count)
    sql(database, "UPDATE jobs SET total = total + :more WHERE id = :job", more=count - 1, job=job_id)
    # The other objects come last.
    sql(
        database,
        "UPDATE pages SET not_before = now() - interval '1 hour' WHERE item_id = (SELECT min(id) FROM items)",
    )
    return job_id


def claim(database: Database, job_id: UUID) -> pages.ClaimedPage:
    worker, batch = add_worker(database), send(database, job_id, limit=1)
    with database.transaction() as session:
        (page,) = pages.claim(session, worker, batch.pages)
    return page


def let_go(database: Database, page: pages.ClaimedPage) -> None:
    """As a worker ends a page of a job that is being canceled, or has failed."""
    ended = Settlement(
        page.id, page.fence, page.job_id, page.item_id, page.attempt, PageState.SUCCEEDED, "{}"
    )
    with database.transaction() as session:
        settle(session, [ended])


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("end", [cancel, expire, fail])
def test_what_was_read_of_an_object_is_written_when_the_rest_is_canceled(
    database: Database, start: Start, end: End, *, seen: bool
) -> None:
    store = MemoryBlobs()
    writer = start(store)
    job_id = document(database, 10, "b.png")
    settle_all(database, job_id, [{"text": "A"}] * 9)
    if seen:
        work(writer, database)
    with database.transaction() as session:
        end(session, job_id)
    work(writer, database)
    assert store.puts == ["results/a.pdf.json"], "of the other nothing was read"
    assert [page["page"] for page in store.json("results/a.pdf.json")["pages"]] == list(range(1, 10))
    assert job(database, job_id).output_leased_until is None
    work(writer, database)
    assert len(store.puts) == 1


@pytest.mark.parametrize("end", [cancel, fail])
def test_a_page_that_is_canceled_as_it_runs_is_waited_for(database: Database, start: Start, end: End) -> None:
    store = MemoryBlobs()
    writer = start(store)
    job_id = document(database, 3)
    settle_all(database, job_id, [{"text": "A"}] * 2)
    running = claim(database, job_id)
    with database.transaction() as session:
        end(session, job_id)
    work(writer, database)
    assert store.puts == []
    let_go(database, running)
    assert job(database, job_id).canceled == 1
    work(writer, database)
    assert [page["page"] for page in store.json("results/a.pdf.json")["pages"]] == [1, 2]
    assert job(database, job_id).output_leased_until is None


class Deleting(MemoryBlobs):
    """With the first object that is put, the job is deleted and taken away."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._lock = threading.Lock()

    def put(self, bucket: str, key: str, data: Any, content_type: str) -> BlobInfo:  # noqa: ANN401
        with self._lock:
            if not self.puts:
                with self._database.transaction() as session:
                    (job_id,) = (row.id for row in sql(self._database, "SELECT id FROM jobs"))
                    control.delete(session, tenant_id(session), job_id, actor="k")
                self._purge()
            return super().put(bucket, key, data, content_type)

    def _purge(self) -> None:
        while sql(self._database, "SELECT 1 FROM pages"):
            with self._database.transaction() as session:
                chunk = purge.lease(session, 60)
                assert chunk
                purge.step(session, chunk)


def test_a_job_that_is_deleted_meanwhile_writes_nothing_empty(database: Database, start: Start) -> None:
    store = Deleting(database)
    job_id = add_job(database, items(*(f"{n}.png" for n in range(30))), output=OUTPUT)
    settle_all(database, job_id, [{"text": "A"}] * 30)
    work(start(store), database)
    assert store.puts
    assert all(store.json(key)["pages"] for key in store.puts)
    assert len(store.puts) <= 8, "only what was on its way as it was deleted"


def test_a_fault_of_our_own_is_tried_again_soon(database: Database, start: Start) -> None:
    store = MemoryBlobs()
    store.moods["ocr"] = OSError("no space left on device")
    job_id = add_job(database, items("a.png"), output=OUTPUT)
    settle_all(database, job_id, [{"text": "A"}])
    writer = start(store)
    assert writer.step()
    assert not writer.step(), "not at once"
    (row,) = sql(database, "SELECT output_leased_until - now() <= interval '3 seconds' AS soon FROM jobs")
    assert row.soon
    store.moods.clear()
    work(writer, database)
    assert store.puts == ["results/a.png.json"]


def test_what_was_canceled_has_no_output(database: Database, start: Start) -> None:
    store = MemoryBlobs()
    job_id = add_job(database, items("a.png", "b.png"), output=OUTPUT)
    settle_all(database, job_id, [{"text": "A"}])
    with database.transaction() as session:
        cancel(session, job_id)
    work(start(store), database)
    assert store.puts == ["results/a.png.json"]
    assert job(database, job_id).output_leased_until is None
