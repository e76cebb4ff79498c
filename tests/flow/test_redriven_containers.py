"""Archives that could not be listed: once their cause is repaired, a redrive unpacks them as if nothing had been."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from fleet_builders import add_job, add_worker, check_record, job, pages, results, send, sql, tenant_id
from images import encoded, noise
from zips import encrypted, tarred, zipped

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import InputAccessDenied
from ocrfleet.messages import PageBatch
from ocrfleet.settings import Settings
from ocrfleet.store import control, redrives
from ocrfleet.store import pages as claims
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.letters import LetterFilter
from ocrfleet.store.redrives import NewRedrive
from ocrfleet.store.settle import settle
from producer.count import Counter
from worker import settlements
from worker.engines.null import NullEngine
from worker.runner import Runner

FILES = {
    "a.png": encoded(noise(1)),
    "b/c.pdf": encoded(noise(1), "PDF", noise(2), noise(3)),
    "notes.txt": b"no image",
    "../d.png": encoded(noise(4)),
    "e.png": encoded(noise(5)),
}
KINDS = [zipped, tarred, lambda files: tarred(files, "w:gz")]


@pytest.fixture
def counter(database: Database, store: Blobs) -> Iterator[Counter]:
    counter = Counter(Settings(decode_processes=1), database, store)
    yield counter
    counter.close()


@pytest.fixture
def runner(start_runner: Callable[..., Runner], store: Blobs) -> Runner:
    return start_runner(NullEngine(Settings()), store=store)


@pytest.fixture
def lost(database: Database, counter: Counter) -> Callable[..., tuple[UUID, str]]:
    """Makes a job of an archive that is not there when it is to be listed."""

    def lost(**item: Any) -> tuple[UUID, str]:
        key = f"redriven/{uuid4().hex}-scans"
        job_id = add_job(database, [NewItem(0, "ocr", key, countable=True, **item)])
        count(counter)
        (line,) = results(database, job_id)
        assert (line["error"]["code"], line["page"]) == ("input_not_found", None)
        assert job(database, job_id).state == "completed"
        return job_id, key

    return lost


Lost = Callable[..., tuple[UUID, str]]


def count(counter: Counter) -> None:
    while counter.step():
        pass


def redrive(database: Database, job_id: UUID, override: dict[str, Any] | None = None) -> None:
    with database.transaction() as session:
        which = LetterFilter(job_id=job_id)
        redrives.create(session, NewRedrive(tenant_id(session), which, override or {}), "a-key")


def run(database: Database, runner: Runner, job_id: UUID) -> None:
    """Until nothing is ready."""
    while (batch := send(database, job_id)).pages:
        runner.run(batch)


def told(database: Database, job_id: UUID) -> list[tuple[Any, ...]]:
    """What became of each page; that of a document which cannot be counted is 0 or 1, by who tried."""
    return sorted(
        (line.get("member", ""), line["page"] or 1, line["custom_id"], line.get("text"), line.get("error"))
        for line in results(database, job_id)
    )


ITEMS = """
SELECT ordinal, member, bytes, etag, options, custom_id, page_count, state FROM items WHERE job_id = :job ORDER BY ordinal"""


@pytest.mark.parametrize("made", KINDS, ids=["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("first", ["a.png", "b/c.pdf", "notes.txt", "../d.png"])
def test_a_redrive_unpacks_it_as_if_it_had_been_there_at_first(
    database: Database,
    store: Blobs,
    counter: Counter,
    runner: Runner,
    lost: Lost,
    made: Callable[..., bytes],
    first: str,
) -> None:
    given = {"custom_id": "box-7", "options": {"cache": False}}
    job_id, key = lost(**given)
    store.put("ocr", key, made({first: FILES[first]} | FILES), "application/octet-stream")
    twin = add_job(database, [NewItem(0, "ocr", key, countable=True, **given)])
    count(counter)
    run(database, runner, twin)
    redrive(database, job_id)
    run(database, runner, job_id)
    assert len(told(database, job_id)) == 7
    assert told(database, job_id) == told(database, twin)
    assert shown(database, job_id) == shown(database, twin)
    again, at_first = job(database, job_id), job(database, twin)
    for name in (
        "state",
        "outcome",
        "items_total",
        "items_pending",
        "total",
        "succeeded",
        "dead",
        "canceled",
    ):
        assert getattr(again, name) == getattr(at_first, name), name
    assert again.generation == 2
    check_record(database, job_id)


def shown(database: Database, job_id: UUID) -> list[tuple[Any, ...]]:
    """The items, without what only counting tells of images and of files that are none."""
    rows = sql(database, ITEMS, job=job_id)
    return [(*row[:6], row.page_count if (row.page_count or 0) > 1 else None) for row in rows]


def test_it_is_unpacked_once_whatever_is_redriven_later(
    database: Database, store: Blobs, runner: Runner, lost: Lost
) -> None:
    job_id, key = lost()
    store.put(
        "ocr",
        key,
        zipped({name: FILES[name] for name in ("a.png", "b/c.pdf", "notes.txt")}),
        "application/zip",
    )
    for _ in range(3):
        redrive(database, job_id)
        run(database, runner, job_id)
        done = job(database, job_id)
        assert (done.items_total, done.total, done.succeeded, done.dead) == (3, 5, 4, 1)
        check_record(database, job_id)


def test_a_message_that_comes_twice_unpacks_it_once(
    database: Database, store: Blobs, runner: Runner, lost: Lost
) -> None:
    job_id, key = lost()
    store.put("ocr", key, zipped(FILES), "application/zip")
    redrive(database, job_id)
    batch = send(database, job_id)
    runner.run(batch)
    assert runner.run(PageBatch(batch.batch_id, batch.lane, batch.pages, exclusive=False)) == 0
    assert job(database, job_id).items_total == 5
    check_record(database, job_id)


def test_the_redrives_options_go_for_every_member(
    database: Database, store: Blobs, runner: Runner, lost: Lost
) -> None:
    job_id, key = lost()
    store.put("ocr", key, zipped({"a.pdf": FILES["b/c.pdf"], "b.pdf": FILES["b/c.pdf"]}), "application/zip")
    redrive(database, job_id, {"pages": "2-3"})
    run(database, runner, job_id)
    found = sorted((line["member"], line["page"]) for line in results(database, job_id))
    assert found == [("a.pdf", 2), ("a.pdf", 3), ("b.pdf", 2), ("b.pdf", 3)]
    check_record(database, job_id)


def test_one_of_which_nothing_can_be_read_ends_with_a_letter_for_each_file(
    database: Database, store: Blobs, runner: Runner, lost: Lost
) -> None:
    job_id, key = lost()
    store.put("ocr", key, encrypted(encrypted(zipped({"a": b"x", "b": b"x"}), "a"), "b"), "application/zip")
    redrive(database, job_id)
    run(database, runner, job_id)
    lines = results(database, job_id)
    assert sorted((line["member"], line["page"], line["error"]["code"]) for line in lines) == [
        ("a", None, "encrypted_archive"),
        ("b", None, "encrypted_archive"),
    ]
    assert job(database, job_id).state == "completed"
    check_record(database, job_id)


def test_one_that_cannot_be_listed_is_a_letter_again(
    database: Database, store: Blobs, runner: Runner, lost: Lost
) -> None:
    job_id, key = lost()
    store.put("ocr", key, zipped({}), "application/zip")
    redrive(database, job_id)
    run(database, runner, job_id)
    assert [line["error"]["code"] for line in results(database, job_id)] == ["empty_file"]
    store.put("ocr", key, zipped({"a.png": FILES["a.png"]}), "application/zip")
    redrive(database, job_id)
    run(database, runner, job_id)
    assert [(line["member"], line["state"]) for line in results(database, job_id)] == [("a.png", "succeeded")]
    check_record(database, job_id)


def test_the_archive_of_a_job_that_is_canceled_meanwhile_stays_as_it_is(
    database: Database, lost: Lost
) -> None:
    job_id, key = lost()
    redrive(database, job_id)
    batch = send(database, job_id)
    worker = add_worker(database)
    with database.transaction() as session:
        (page,) = claims.claim(session, worker, batch.pages)
        control.cancel(session, tenant_id(session), job_id, actor="a-key")
    members = [NewItem(n, "ocr", key, member=name) for n, name in enumerate(FILES)]
    with database.transaction() as session:
        assert settle(session, [settlements.unpacked(page, worker, members)]) == {page.id}
    assert [page.state for page in pages(database, job_id)] == ["canceled"]
    assert job(database, job_id).items_total == 1
    check_record(database, job_id)


def test_what_is_kept_for_the_fleet_is_not_read_by_the_back_door(
    database: Database, store: Blobs, runner: Runner
) -> None:
    key = f"uploads/{uuid4()}/secret.png"
    store.put("ocr", key, FILES["a.png"], "image/png")
    refused = NewItem(0, "ocr", key, error=InputAccessDenied("not yours"))
    job_id = add_job(database, [refused])
    redrive(database, job_id)
    run(database, runner, job_id)
    assert [line["error"]["code"] for line in results(database, job_id)] == ["input_access_denied"]
    check_record(database, job_id)
