"""Deleting a job: it vanishes at once, its rows chunk by chunk, nobody else's with them."""

from uuid import UUID

import pytest
from acts import change, delete, take_away
from builders import Racer, Record, scans, settlement
from sqlalchemy import text

from ocrfleet.errors import InputNotFound, JobStateConflict
from ocrfleet.states import PageState
from ocrfleet.store import control, jobs, purge
from ocrfleet.store.expansion import CountedItem

TABLES = ("jobs", "job_errors", "items", "pages", "outcomes", "attempts", "results_cache")


def finished(record: Record, count: int = 4) -> UUID:
    """A job with a dead page and a cached result."""
    job_id, _, _ = record.running(count)
    dead, *good = record.pages(job_id)
    record.settle(settlement(dead, PageState.DEAD), *(settlement(page) for page in good))
    record.run("UPDATE attempts SET thumbnail = 'thumbnails/' || page_id WHERE page_id = :page", page=dead.id)
    query = """
        INSERT INTO results_cache (key, tenant_id, job_id, body)
        VALUES (sha256(CAST(CAST(:job AS text) AS bytea)), :tenant, :job, '{}')"""
    record.run(query, tenant=record.tenant, job=job_id)
    return job_id


def rows(record: Record) -> dict[str, int]:
    return {table: record.scalar(f"SELECT count(*) FROM {table}") for table in TABLES}  # noqa: S608


def test_a_deleted_job_is_seen_no_more(record: Record) -> None:
    gone, kept = finished(record), finished(record)
    delete(record, gone)
    with record.database.transaction() as session:
        assert jobs.get(session, record.tenant, gone) is None
        assert jobs.get(session, record.tenant, gone, purged=True) is not None
        assert [row["id"] for row in jobs.listing(session, record.tenant, limit=9)] == [kept]
        assert (jobs.is_there(session, gone), jobs.is_there(session, kept)) == (False, True)


@pytest.mark.parametrize("limit", [1, 3, 10_000])
def test_all_of_it_goes_in_chunks_and_nothing_else(record: Record, limit: int) -> None:
    kept = finished(record, 2)
    alone = rows(record)
    gone = finished(record, 5)
    change(record, gone, labels={"a": "1"})
    before = rows(record)
    delete(record, gone)
    assert rows(record) == before, "not by the caller's own request"
    chunks = 0
    while take_away(record, limit):
        after = rows(record)
        assert all(before[table] - after[table] <= limit for table in TABLES)
        before, chunks = after, chunks + 1
        record.recount()
    assert rows(record) == alone
    assert chunks >= 5 // limit
    assert record.state(kept).state == "completed"
    assert record.scalar("SELECT count(*) FROM audit WHERE subject = :job", job=f"job:{gone}") == 2


def test_a_document_of_many_pages_goes_in_chunks_too(record: Record) -> None:
    job_id = record.job()
    record.expand(job_id, scans(2, countable=True))
    counted = [CountedItem(item, 7, range(1, 8), "e") for item in record.pending()]
    record.count(*counted)
    record.cancel(job_id)
    delete(record, job_id)
    sizes: list[int] = []
    while chunk := take_away(record, 3):
        sizes.append(len(chunk.page_ids))
    assert sum(sizes) == 14
    assert max(sizes) == 3
    assert set(rows(record).values()) == {0}


def test_the_objects_that_only_these_rows_name_are_told_first(record: Record) -> None:
    job_id = finished(record)
    delete(record, job_id)
    dead = record.pages(job_id)[0]
    with record.database.transaction() as session:
        chunk = purge.lease(session, 60.0)
    assert chunk
    assert (chunk.job_id, chunk.thumbnails) == (job_id, [f"thumbnails/{dead.id}"])
    assert len(record.pages(job_id)) == 4, "until they are gone"


def test_one_producer_at_a_time_takes_a_job_away_until_its_lease_runs_out(record: Record) -> None:
    first, second = finished(record), finished(record)
    delete(record, first)
    delete(record, second)
    with record.database.transaction() as session:
        leased = [purge.lease(session, 60.0) for _ in range(3)]
    assert [chunk and chunk.job_id for chunk in leased] == [first, second, None]
    record.run("UPDATE jobs SET expansion_leased_until = now()")
    assert take_away(record)


def test_a_job_that_is_not_deleted_loses_nothing(record: Record) -> None:
    job_id = finished(record)
    before = rows(record)
    with record.database.transaction() as session:
        purge.step(session, purge.Chunk(job_id, [page.id for page in record.pages(job_id)], []))
    assert rows(record) == before
    assert take_away(record) is None


def test_pages_of_a_failed_job_that_still_run_are_let_go_first(record: Record) -> None:
    job_id, worker = record.job(), record.worker()
    record.expand(job_id, scans(2), listed=False)
    (running,) = record.claim(worker, record.dispatch(job_id, limit=1))
    with record.database.transaction() as session:
        control.fail(session, job_id, InputNotFound())
    delete(record, job_id)
    assert take_away(record) is None
    assert record.settle(settlement(running)) == {running.id}
    assert record.states(job_id) == ["canceled"] * 2
    while take_away(record):
        pass
    assert set(rows(record).values()) == {0}


def test_a_late_result_of_a_job_that_is_gone_is_refused_and_harms_no_other_in_its_flush(
    record: Record,
) -> None:
    """Its worker was frozen all the while."""
    job_id, worker = record.ready(1), record.worker()
    (late,) = record.claim(worker, record.dispatch(job_id))
    record.cancel(job_id)
    record.settle(settlement(late))
    delete(record, job_id)
    while take_away(record):
        pass
    _, _, batch = record.running(1)
    good = record.page(batch.pages[0][0])
    assert record.settle(settlement(late), settlement(good)) == {good.id}
    record.recount()


def test_a_deletion_that_meets_a_redrive_is_refused_since_the_job_runs_again(record: Record) -> None:
    job_id = finished(record)
    with record.database.transaction() as session:
        jobs.lock(session, [job_id])
        racer = Racer(record.database, lambda s: control.delete(s, record.tenant, job_id, actor="a"))
        assert racer.waits()
        # What the redrive of its dead page does to it.
        reopened = "UPDATE jobs SET state = 'running', finished_at = NULL, outcome = NULL WHERE id = :job"
        session.execute(text(reopened), {"job": job_id})
    with pytest.raises(JobStateConflict):
        racer.result()
    assert record.state(job_id).purged_at is None
