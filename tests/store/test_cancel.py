"""Cancellation: what waits ends at once, what runs when its worker lets go, large jobs in steps."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from acts import acts, change, expire, pause
from builders import Racer, Record, scans, settlement

from ocrfleet.errors import DeadlineExceeded, InputNotFound, JobStateConflict
from ocrfleet.states import JobState
from ocrfleet.store import control, dispatch
from ocrfleet.store.expansion import CountedItem

LATER = datetime.now(UTC) + timedelta(days=1)


def test_cancel_ends_what_waits_at_once_and_what_runs_when_it_settles(record: Record) -> None:
    job_id, worker = record.ready(6), record.worker()
    (page,) = record.claim(worker, record.dispatch(job_id, limit=1))
    waiting = record.dispatch(job_id, limit=2)
    assert record.cancel(job_id) == JobState.CANCELING
    assert sorted(record.states(job_id)) == ["canceled"] * 5 + ["running"]
    job = record.state(job_id)
    assert (job.state, job.canceled, job.error["code"]) == ("canceling", 5, "canceled")
    assert record.claim(worker, waiting) == []
    record.recount()
    record.settle(settlement(page))
    job = record.state(job_id)
    assert (job.state, job.canceled, job.succeeded, job.result_seq) == ("canceled", 6, 0, 0)
    assert job.finished_at is not None
    record.recount()


def test_results_from_before_a_cancellation_stay(record: Record) -> None:
    job_id, _, _ = record.running(3)
    record.settle(settlement(record.pages(job_id)[0]))
    record.cancel(job_id)
    record.settle(*(settlement(page) for page in record.pages(job_id)[1:]))
    job = record.state(job_id)
    assert (job.state, job.succeeded, job.canceled, len(record.lines(job_id))) == ("canceled", 1, 2, 1)
    record.recount()


def test_canceling_twice_changes_nothing(record: Record) -> None:
    job_id, _, _ = record.running(1)
    assert record.cancel(job_id) == JobState.CANCELING
    once = record.state(job_id)
    assert record.cancel(job_id, DeadlineExceeded) == JobState.CANCELING
    assert record.state(job_id) == once
    record.settle(*(settlement(page) for page in record.pages(job_id)))
    ended = record.state(job_id)
    assert record.cancel(job_id) == JobState.CANCELED
    assert record.state(job_id) == ended


def test_a_completed_job_cannot_be_canceled(record: Record) -> None:
    job_id = record.ready(0)
    with pytest.raises(JobStateConflict):
        record.cancel(job_id)
    assert record.state(job_id).state == "completed"


@pytest.mark.parametrize("paused", [False, True])
def test_at_its_deadline_a_jobs_unfinished_pages_are_canceled(record: Record, paused: bool) -> None:
    late, other = record.ready(3), record.ready(1, deadline=LATER)
    (page,) = record.claim(record.worker(), record.dispatch(late, limit=1))
    record.dispatch(late, limit=1)
    if paused:
        pause(record, late)
    assert expire(record) == 0
    change(record, late, deadline=datetime.now(UTC) - timedelta(seconds=1))
    assert expire(record) == 1
    job = record.state(late)
    assert (job.state, job.error["code"]) == ("canceling", "deadline_exceeded")
    record.settle(settlement(page))
    assert (record.state(late).state, record.states(late)) == ("canceled", ["canceled"] * 3)
    assert record.state(other).state == "queued"
    assert [act.act for act in acts(record) if act.act == "cancel"] == [], "nobody did it"
    record.recount()


def test_cancel_and_dispatch_at_once_do_not_deadlock(record: Record) -> None:
    """The dispatcher holds pages and wants no job; the cancellation holds the job and waits for the pages."""
    job_id = record.ready(3)
    with record.database.transaction() as session:
        taken = [page for page, _ in dispatch.take(session, [job_id], 2, suspects=False)]
        cancel = Racer(record.database, lambda s: control.cancel(s, record.tenant, job_id))
        assert cancel.waits()
        assert len(dispatch.mark(session, [(1, taken)])) == 2
    assert cancel.result() == JobState.CANCELING
    assert (record.states(job_id), record.state(job_id).state) == (["canceled"] * 3, "canceled")
    record.recount()


def test_a_dispatcher_that_meets_a_cancellation_takes_nothing_of_the_job(record: Record) -> None:
    job_id = record.ready(3)
    with record.database.transaction() as session:
        control.cancel(session, record.tenant, job_id)
        take = Racer(record.database, lambda s: dispatch.take(s, [job_id], 3, suspects=False))
        assert not take.waits()
        assert take.result() == []


def test_the_queued_pages_of_a_large_job_are_canceled_in_steps(record: Record) -> None:
    job_id, worker = record.ready(4_500), record.worker()
    (page,) = record.claim(worker, record.dispatch(job_id, limit=1))
    record.dispatch(job_id, limit=100)
    record.cancel(job_id)
    # What is dispatched goes at once, however much is still ready.
    states = Counter(record.states(job_id))
    assert states["ready"] > 0
    assert states == {
        "ready": 4_499 - states["canceled"],
        "canceled": states["canceled"],
        "running": 1,
    }
    assert record.claim(worker, record.dispatch(job_id, limit=100)) == []
    with record.database.transaction() as session:
        control.drop_canceled(session)
    assert Counter(record.states(job_id)) == {"canceled": 4_499, "running": 1}
    record.settle(settlement(page))
    assert (record.state(job_id).state, record.state(job_id).canceled) == ("canceled", 4_500)
    with record.database.transaction() as session:
        control.drop_canceled(session)
    record.recount()


def test_a_job_whose_expansion_failed_after_it_was_taken_away_is_left_alone(record: Record) -> None:
    with record.database.transaction() as session:
        control.fail(session, uuid4(), InputNotFound())


def test_items_still_to_be_counted_are_canceled_in_steps_too_and_counted_no_more(record: Record) -> None:
    job_id = record.job()
    record.expand(job_id, scans(1_200, countable=True))
    leased = record.pending(limit=1_200)
    record.cancel(job_id)
    assert (record.state(job_id).state, record.state(job_id).items_pending) == ("canceling", 200)
    record.recount()
    record.count(*(CountedItem(item, 2, (1, 2), "e") for item in leased))
    assert (record.pages(job_id), record.state(job_id).items_pending) == ([], 200)
    assert record.pending() == []
    with record.database.transaction() as session:
        assert control.drop_canceled(session)
    assert (record.state(job_id).state, record.state(job_id).items_pending) == ("canceled", 0)
    record.recount()
