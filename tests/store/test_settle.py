"""Settling: under the fence of the lease, once, in the order of locks, with counters that move along."""

import json

import pytest
from builders import Racer, Record, scans, settlement
from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.states import JobState, PageState
from ocrfleet.store import jobs, settle
from ocrfleet.store.jobs import NewJob


def test_a_success_ends_the_page_with_its_outcome(record: Record) -> None:
    job_id, _, _ = record.running(2)
    first, second = record.pages(job_id)
    assert record.settle(settlement(first, body='{"text":"a"}')) == {first.id}
    page = record.page(first.id)
    assert (page.state, page.incarnation, page.batch_id, page.fence) == ("succeeded", None, None, 1)
    job = record.state(job_id)
    assert (job.succeeded, job.result_seq, job.state, job.finished_at) == (1, 1, "running", None)
    assert record.page(second.id).state == "running"
    record.recount()


def test_settle_refuses_a_result_whose_fence_moved_on(record: Record) -> None:
    job_id, worker, _ = record.running(1)
    (late,) = record.pages(job_id)
    record.silence(worker)
    assert record.sweep().lost == 1
    newer = record.worker()
    record.claim(newer, record.dispatch(job_id))
    assert record.settle(settlement(late, body='{"text":"late"}')) == set()
    (page,) = record.pages(job_id)
    assert (page.state, page.incarnation, page.fence) == ("running", newer, 2)
    assert record.settle(settlement(page, body='{"text":"new"}')) == {page.id}
    ((_, line),) = record.lines(job_id)
    assert json.loads(line)["text"] == "new"
    record.recount()


@pytest.mark.parametrize("again", [PageState.SUCCEEDED, PageState.DEAD, PageState.READY, PageState.CANCELED])
def test_a_page_is_settled_once(record: Record, again: PageState) -> None:
    job_id, _, _ = record.running(1)
    (page,) = record.pages(job_id)
    record.settle(settlement(page, body='{"text":"first"}'))
    ended = (record.state(job_id), record.page(page.id), record.lines(job_id))
    assert record.settle(settlement(page, again)) == set()
    assert (record.state(job_id), record.page(page.id), record.lines(job_id)) == ended
    assert record.run("SELECT * FROM attempts") == []


@pytest.mark.parametrize("state", ["ready", "dispatched"])
def test_settle_refuses_a_page_that_no_longer_runs(record: Record, state: str) -> None:
    """A page that was swept keeps its fence until it is dispatched again: the state is what tells."""
    job_id, worker, batch = record.running(1)
    (late,) = record.pages(job_id)
    record.silence(worker)
    record.sweep()
    if state == "dispatched":
        values = {"batch": batch.id, "id": late.id}
        record.run("UPDATE pages SET state = 'dispatched', batch_id = :batch WHERE id = :id", **values)
    assert record.settle(settlement(late)) == set()
    assert record.page(late.id).state == state
    record.recount()


def test_one_page_under_two_fences_in_one_flush_counts_once(record: Record) -> None:
    job_id, worker, _ = record.running(1)
    (late,) = record.pages(job_id)
    record.silence(worker)
    record.sweep()
    record.claim(record.worker(), record.dispatch(job_id))
    (page,) = record.pages(job_id)
    dead = settlement(late, PageState.DEAD)
    assert record.settle(dead, settlement(page, PageState.READY)) == {page.id}
    assert (record.page(page.id).state, record.state(job_id).dead) == ("ready", 0)
    assert record.lines(job_id) == []
    record.recount()


def test_a_retry_waits_out_its_delay_and_keeps_its_attempt(record: Record) -> None:
    job_id, worker, _ = record.running(2)
    own, foreign = record.pages(job_id)
    failed = {"code": "output_invalid", "detail": "no JSON", "parameters": '{"task":"text"}', "delay": 60.0}
    free = {"code": "storage_unavailable", "detail": "no answer"}
    record.settle(
        settlement(own, PageState.READY, failed=True, incarnation=worker, **failed),
        settlement(foreign, PageState.READY, **free),
    )
    waits = "SELECT extract(epoch FROM not_before - now()) > 55 FROM pages WHERE id = :id"
    assert (record.scalar(waits, id=own.id), record.scalar(waits, id=foreign.id)) == (True, False)
    assert [(row.state, row.failures, row.losses) for row in record.pages(job_id)] == [
        ("ready", 1, 0),
        ("ready", 0, 0),
    ]
    kept = record.run(
        "SELECT page_id, fence, attempt, incarnation, code, parameters FROM attempts ORDER BY page_id"
    )
    assert [tuple(row) for row in kept] == [
        (own.id, 1, 1, worker, "output_invalid", {"task": "text"}),
        (foreign.id, 1, 1, None, "storage_unavailable", {}),
    ]
    assert record.dispatch(job_id).pages == [(foreign.id, 2)]
    record.recount()


def test_a_misnamed_document_grows_when_its_first_page_settles(record: Record) -> None:
    job_id, _, _ = record.running(1)
    (page,) = record.pages(job_id)
    record.settle(settlement(page, page_count=3))
    job = record.state(job_id)
    assert (job.total, job.succeeded, job.state) == (3, 1, "running")
    assert [(row.number, row.state) for row in record.pages(job_id)] == [
        (1, "succeeded"),
        (2, "ready"),
        (3, "ready"),
    ]
    (item,) = record.run("SELECT page_count FROM items")
    assert item.page_count == 3
    record.recount()
    claimed = record.claim(record.worker(), record.dispatch(job_id))
    record.settle(*(settlement(late, page_count=3) for late in claimed))
    job = record.state(job_id)
    assert (job.total, job.succeeded, job.state) == (3, 3, "completed")
    record.recount()


def test_a_misnamed_document_of_a_canceled_job_does_not_grow(record: Record) -> None:
    job_id, _, _ = record.running(1)
    (page,) = record.pages(job_id)
    record.cancel(job_id)
    record.settle(settlement(page, page_count=3))
    job = record.state(job_id)
    assert (job.total, job.canceled, job.state) == (1, 1, "canceled")
    record.recount()


@pytest.mark.parametrize("state", [PageState.SUCCEEDED, PageState.DEAD, PageState.READY])
def test_pages_of_a_canceling_job_settle_as_canceled_without_a_result(
    record: Record, state: PageState
) -> None:
    job_id, _, _ = record.running(1)
    (page,) = record.pages(job_id)
    record.cancel(job_id)
    assert record.settle(settlement(page, state)) == {page.id}
    job = record.state(job_id)
    assert (record.states(job_id), job.state, job.canceled) == (["canceled"], "canceled", 1)
    assert (job.result_seq, record.lines(job_id)) == (0, [])
    record.recount()


def test_pages_of_a_paused_job_finish(record: Record) -> None:
    job_id, _, _ = record.running(1)
    record.run("UPDATE jobs SET state = 'paused'")
    record.settle(*(settlement(page) for page in record.pages(job_id)))
    assert (record.states(job_id), record.state(job_id).state) == (["succeeded"], "completed")


def test_one_flush_settles_pages_of_several_jobs(record: Record) -> None:
    worker = record.worker()
    job_ids = [record.ready(2) for _ in range(3)]
    claimed = record.claim(worker, record.dispatch(*job_ids))
    record.settle(*(settlement(page) for page in reversed(claimed)))
    assert [record.state(job_id).state for job_id in job_ids] == ["completed"] * 3
    record.recount()


def test_settle_waits_for_the_job_before_it_touches_a_page(record: Record) -> None:
    """Lock order everywhere: job rows, then pages. Whoever took a page first could deadlock with a cancellation."""
    job_id, _, _ = record.running(1)
    (page,) = record.pages(job_id)
    with record.database.transaction() as session:
        jobs.lock(session, [job_id])
        flush = Racer(record.database, lambda s: settle.settle(s, [settlement(page)]))
        assert flush.waits()
        # Were the page locked already, this would say so instead of returning it.
        free = session.execute(text("SELECT id FROM pages FOR NO KEY UPDATE NOWAIT")).scalars().all()
        assert free == [page.id]
    assert flush.result() == {page.id}


def test_settlers_of_several_jobs_do_not_deadlock(record: Record) -> None:
    worker, job_ids = record.worker(), sorted(record.ready(2) for _ in range(2))
    claimed = record.claim(worker, record.dispatch(*job_ids))
    by_job = {job_id: [p for p in claimed if p.job_id == job_id] for job_id in job_ids}
    one = [settlement(by_job[job_id][0]) for job_id in job_ids]
    two = [settlement(by_job[job_id][1]) for job_id in reversed(job_ids)]
    with record.database.transaction() as session:
        jobs.lock(session, job_ids[:1])
        racers = [Racer(record.database, lambda s, w=w: settle.settle(s, w)) for w in (one, two)]
        assert all(racer.waits() for racer in racers)
        # Both wait for the first job, so neither holds the second.
        session.execute(text("SELECT 1 FROM jobs WHERE id = :id FOR UPDATE NOWAIT"), {"id": job_ids[1]})
    assert [len(racer.result()) for racer in racers] == [2, 2]
    assert {record.state(job_id).state for job_id in job_ids} == {"completed"}
    record.recount()


def test_no_reader_skips_a_result_while_two_settlers_commit(record: Record) -> None:
    """Sequence numbers are given in the order of commits: what is visible is all there is up to the highest."""
    job_id, _, _ = record.running(4)
    rows = record.pages(job_id)

    def settles(session: Session) -> set[int]:
        return settle.settle(session, [settlement(row) for row in rows[:2]])

    with record.database.transaction() as session:
        settle.settle(session, [settlement(row) for row in rows[2:]])
        slower = Racer(record.database, settles)
        assert slower.waits()
        assert record.lines(job_id) == []
    slower.result()
    assert [seq for seq, _ in record.lines(job_id)] == [1, 2, 3, 4]
    pages = [(json.loads(line)["key"], seq) for seq, line in record.lines(job_id)]
    assert dict(pages) == {"2.png": 1, "3.png": 2, "0.png": 3, "1.png": 4}
    record.recount()


def test_the_same_page_settled_twice_at_once_counts_once(record: Record) -> None:
    job_id, _, _ = record.running(2)
    page, _ = record.pages(job_id)

    def step(session: Session) -> set[int]:
        return settle.settle(session, [settlement(page)])

    with record.database.transaction() as session:
        assert step(session) == {page.id}
        second = Racer(record.database, step)
        assert second.waits()
    assert second.result() == set()
    record.recount()


def test_a_job_of_one_page_is_complete_with_it(record: Record) -> None:
    job = NewJob(record.job(), record.tenant, "text", {})
    record.expand(job.id, scans(1))
    record.claim(record.worker(), record.dispatch(job.id))
    record.settle(*(settlement(page, PageState.DEAD) for page in record.pages(job.id)))
    ended = record.state(job.id)
    assert (ended.state, ended.outcome, ended.dead) == (JobState.COMPLETED, "failed", 1)
    record.recount()
