"""Expansion: chunks and their cursor are written together, by whoever has it; a crash resumes with no duplicate."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from builders import Racer, Record, scans
from sqlalchemy.orm import Session

from ocrfleet.errors import InputNotFound, ManifestInvalid
from ocrfleet.store import control, expansion
from ocrfleet.store.expansion import Expansion, LeaseLost, NewItem


def lease(record: Record, seconds: float = 60.0) -> Expansion | None:
    with record.database.transaction() as session:
        return expansion.lease(session, seconds)


def writing(at: Expansion, items: list[NewItem], *, listed: bool = False) -> Callable[[Session], Expansion]:
    after = {"next": len(items)}
    return lambda session: expansion.write(session, at, after, items, listed=listed, seconds=60.0)


def write(record: Record, at: Expansion, items: list[NewItem], *, listed: bool = False) -> Expansion:
    with record.database.transaction() as session:
        return writing(at, items, listed=listed)(session)


def everything(record: Record) -> list[Any]:
    tables = ("jobs", "items", "pages", "outcomes", "attempts", "job_errors")
    return [record.run(f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]  # noqa: S608


def test_a_chunk_is_written_with_the_cursor_behind_it(record: Record) -> None:
    job_id = record.job(options={"a": 1})
    at = lease(record)
    assert at is not None
    assert (at.job_id, at.input["bucket"], at.options, at.cursor) == (job_id, "in", {"a": 1}, {})
    first = write(record, at, [*scans(2), *scans(1, start=2, countable=True)])
    assert first.cursor == record.state(job_id).cursor == {"next": 3}
    job = record.state(job_id)
    assert (job.items_total, job.items_pending, job.total, job.listed_at, job.expanded_at) == (
        3,
        1,
        2,
        None,
        None,
    )
    items = record.run("SELECT ordinal, bucket, key, etag, state FROM items ORDER BY ordinal")
    assert [tuple(item) for item in items] == [
        (0, "in", "0.png", "e0", "counted"),
        (1, "in", "1.png", "e1", "counted"),
        (2, "in", "2.pdf", "e2", "pending"),
    ]
    assert [(page.number, page.state) for page in record.pages(job_id)] == [(1, "ready")] * 2
    record.recount()


def test_pages_run_while_their_job_still_expands(record: Record) -> None:
    job_id = record.job()
    record.expand(job_id, scans(2), listed=False)
    assert len(record.claim(record.worker(), record.dispatch(job_id))) == 2
    record.expand(job_id, scans(1, start=2))
    job = record.state(job_id)
    assert (job.state, job.total) == ("running", 3)
    assert job.expanded_at is not None
    record.recount()


@pytest.mark.parametrize("start", [0, 5], ids=["the same chunk", "another cut of the input"])
def test_a_second_expander_at_the_same_cursor_changes_nothing(record: Record, start: int) -> None:
    record.job()
    at = lease(record, seconds=0.0)
    stale = lease(record)
    assert at is not None
    assert stale is not None
    write(record, at, scans(3))
    before = everything(record)
    with pytest.raises(LeaseLost):
        write(record, stale, scans(3, start=start), listed=True)
    assert everything(record) == before
    record.recount()


@pytest.mark.parametrize("crashed", [False, True])
def test_of_two_expanders_that_write_a_chunk_at_once_one_does(record: Record, crashed: bool) -> None:
    job_id = record.job()
    at = lease(record)
    assert at is not None
    with record.database.transaction() as session:
        writing(at, scans(3))(session)
        second = Racer(record.database, writing(at, scans(3)))
        assert second.waits()
        if crashed:
            session.rollback()
    if crashed:
        assert second.result().cursor == {"next": 3}
    else:
        with pytest.raises(LeaseLost):
            second.result()
    assert len(record.pages(job_id)) == record.state(job_id).items_total == 3
    record.recount()


def test_a_crash_in_the_middle_of_a_chunk_leaves_nothing_of_it(record: Record) -> None:
    record.job()
    at = lease(record)
    assert at is not None
    before = everything(record)
    with record.database.transaction() as session:
        writing(at, scans(3))(session)
        session.rollback()
    assert everything(record) == before
    assert write(record, at, scans(3), listed=True).cursor == {"next": 3}
    record.recount()


def test_an_expansion_is_leased_to_one_producer_at_a_time(record: Record) -> None:
    first, second = record.job(), record.job()
    leased = [lease(record) for _ in range(3)]
    assert [at and at.job_id for at in leased] == [first, second, None]
    record.run("UPDATE jobs SET expansion_leased_until = now() WHERE id = :id", id=second)
    again = lease(record)
    assert again is not None
    assert again.job_id == second
    with record.database.transaction() as session:
        expansion.release(session, first)
        expansion.release(session, second, after=60.0)
    assert [at and at.job_id for at in (lease(record), lease(record))] == [first, None]


def test_writing_a_chunk_renews_the_lease(record: Record) -> None:
    record.job()
    at = lease(record, seconds=0.0)
    assert at is not None
    write(record, at, scans(1))
    assert lease(record) is None


@pytest.mark.parametrize(("state", "leased"), [("paused", True), ("canceling", False)])
def test_a_paused_job_expands_and_a_canceling_one_does_not(record: Record, state: str, leased: bool) -> None:
    job_id = record.job()
    record.run("UPDATE jobs SET state = :state", state=state)
    assert (lease(record) is not None) is leased
    if not leased:
        with pytest.raises(LeaseLost):
            record.expand(job_id, scans(1))
        assert record.pages(job_id) == []


def test_a_chunk_that_meets_a_cancellation_is_not_written(record: Record) -> None:
    job_id = record.job()
    at = lease(record)
    assert at is not None
    with record.database.transaction() as session:
        control.cancel(session, record.tenant, job_id)
        racer = Racer(record.database, writing(at, scans(3)))
        assert racer.waits()
    with pytest.raises(LeaseLost):
        racer.result()
    job = record.state(job_id)
    assert (job.state, job.total, record.pages(job_id)) == ("canceled", 0, [])


def test_a_cancellation_that_meets_a_chunk_cancels_it_too(record: Record) -> None:
    job_id = record.job()
    at = lease(record)
    assert at is not None
    with record.database.transaction() as session:
        writing(at, [*scans(2), *scans(2, start=2, countable=True)])(session)
        cancel = Racer(record.database, lambda s: control.cancel(s, record.tenant, job_id))
        assert cancel.waits()
    cancel.result()
    job = record.state(job_id)
    assert (job.state, job.total, job.canceled, job.items_pending) == ("canceled", 2, 2, 0)
    assert record.pending() == []
    record.recount()


def test_an_empty_input_completes_its_job(record: Record) -> None:
    job_id = record.job()
    record.expand(job_id, [])
    job = record.state(job_id)
    assert (job.state, job.outcome, job.total) == ("completed", "succeeded", 0)
    assert job.finished_at is not None


def test_items_that_cannot_be_read_end_as_page_zero(record: Record) -> None:
    job_id = record.job()
    wrong = NewItem(1, "in", "line 2", error=ManifestInvalid("line 2 is not JSON", line=2))
    record.expand(job_id, [*scans(1), wrong])
    pages = record.pages(job_id)
    assert sorted((page.number, page.state) for page in pages) == [(0, "dead"), (1, "ready")]
    job = record.state(job_id)
    assert (job.total, job.dead, job.result_seq, job.state) == (2, 1, 1, "queued")
    (attempt,) = record.run("SELECT page_id, attempt, code, detail FROM attempts")
    assert tuple(attempt)[1:] == (1, "manifest_invalid", "line 2 is not JSON")
    record.recount()


def test_a_job_whose_every_line_is_broken_completes_with_its_last_chunk(record: Record) -> None:
    job_id = record.job()
    broken = [NewItem(n, "in", f"line {n}", error=InputNotFound("gone")) for n in range(3)]
    record.expand(job_id, broken[:2], listed=False)
    assert record.state(job_id).state == "queued"
    record.expand(job_id, broken[2:])
    job = record.state(job_id)
    assert (job.state, job.outcome, job.dead, job.result_seq) == ("completed", "failed", 3, 3)
    assert [seq for seq, _ in record.lines(job_id)] == [1, 2, 3]
    record.recount()


def test_a_job_whose_expansion_fails_is_failed(record: Record) -> None:
    job_id, worker = record.job(), record.worker()
    record.expand(job_id, [*scans(3), *scans(2, start=3, countable=True)], listed=False)
    record.claim(worker, record.dispatch(job_id, limit=1))

    def fail(job: UUID) -> None:
        with record.database.transaction() as session:
            control.fail(session, job, InputNotFound("no bucket"))

    fail(job_id)
    job = record.state(job_id)
    assert (job.state, job.outcome, job.error) == (
        "failed",
        "failed",
        {"code": "input_not_found", "detail": "no bucket"},
    )
    assert sorted(record.states(job_id)) == ["canceled", "canceled", "running"]
    assert (job.canceled, job.items_pending, record.pending()) == (2, 0, [])
    with pytest.raises(LeaseLost):
        record.expand(job_id, scans(1, start=9))
    done = record.ready(0)
    fail(done)
    assert record.state(done).state == "completed"
    record.recount()
