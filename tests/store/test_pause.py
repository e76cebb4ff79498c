"""Pause and resume: nothing is claimed meanwhile, nothing is charged, nothing is lost."""

from collections import Counter

import pytest
from acts import ACTOR, demanded, pause, recall, resume
from builders import Racer, Record, scans, settlement

from ocrfleet.states import PageState
from ocrfleet.store import control, expansion, jobs, pages


def test_pause_returns_what_was_dispatched_at_no_charge_and_lets_what_runs_finish(record: Record) -> None:
    job_id, worker = record.ready(6), record.worker()
    running = record.claim(worker, record.dispatch(job_id, limit=2))
    waiting = record.dispatch(job_id, limit=2)
    pause(record, job_id)
    assert record.state(job_id).state == "paused"
    assert Counter(record.states(job_id)) == {"running": 2, "ready": 4}
    back = [record.page(id_) for id_, _ in waiting.pages]
    assert {(page.redispatches, page.failures, page.losses, page.batch_id) for page in back} == {
        (0, 0, 0, None)
    }
    assert record.claim(worker, waiting) == [], "its message comes late"
    assert len(record.settle(*(settlement(page) for page in running))) == 2
    job = record.state(job_id)
    assert (job.state, job.succeeded) == ("paused", 2)
    record.recount()


def test_of_a_paused_job_nothing_is_offered_to_the_dispatcher_and_it_goes_on_where_it_was(
    record: Record,
) -> None:
    job_id, worker = record.ready(3), record.worker()
    old = record.dispatch(job_id, limit=1)
    pause(record, job_id)
    assert demanded(record) == []
    resume(record, job_id)
    assert (record.state(job_id).state, demanded(record)) == ("running", [job_id])
    batch = record.dispatch(job_id)
    assert record.claim(worker, old) == [], "the message from before the pause"
    record.settle(*(settlement(page) for page in record.claim(worker, batch)))
    job = record.state(job_id)
    assert (job.state, job.outcome, job.generation) == ("completed", "succeeded", 1)
    record.recount()


def test_a_job_that_never_started_is_queued_again(record: Record) -> None:
    job_id = record.ready(1)
    pause(record, job_id)
    resume(record, job_id)
    job = record.state(job_id)
    assert (job.state, job.started_at, job.sampled_at) == ("queued", None, None)


def test_a_paused_job_is_expanded_on(record: Record) -> None:
    job_id = record.job()
    pause(record, job_id)
    with record.database.transaction() as session:
        leased = expansion.lease(session, 60.0)
    assert leased
    assert leased.job_id == job_id
    record.expand(job_id, scans(2))
    record.expand(uncounted := record.job(), scans(1, countable=True))
    pause(record, uncounted)
    record.count(*(expansion.CountedItem(item, 3, (1, 2, 3), "e") for item in record.pending()))
    assert [record.states(one) for one in (job_id, uncounted)] == [["ready"] * 2, ["ready"] * 3]
    assert [record.state(one).state for one in (job_id, uncounted)] == ["paused"] * 2
    assert record.state(uncounted).expanded_at is not None
    record.recount()


def test_a_job_whose_last_page_ends_while_it_is_paused_is_complete(record: Record) -> None:
    job_id, _, _ = record.running(1)
    pause(record, job_id)
    record.settle(*(settlement(page) for page in record.pages(job_id)))
    assert record.state(job_id).state == "completed"
    record.recount()


def test_a_page_that_fails_while_its_job_is_paused_waits_with_it(record: Record) -> None:
    job_id, worker, _ = record.running(1)
    pause(record, job_id)
    record.settle(*(settlement(page, PageState.READY, failed=True) for page in record.pages(job_id)))
    assert record.states(job_id) == ["ready"]
    assert record.claim(worker, record.dispatch(job_id)) == []
    resume(record, job_id)
    assert len(record.claim(worker, record.dispatch(job_id))) == 1


def test_a_paused_job_can_be_canceled(record: Record) -> None:
    job_id = record.ready(2)
    pause(record, job_id)
    record.cancel(job_id)
    assert (record.state(job_id).state, record.states(job_id)) == ("canceled", ["canceled"] * 2)
    record.recount()


def test_what_a_dispatcher_sends_in_spite_of_a_pause_is_recalled_at_no_charge(record: Record) -> None:
    """It had looked before the pause. A worker refuses such a page, and its message is gone."""
    paused, other, waiting = record.ready(2), record.ready(1), record.ready(1)
    pause(record, paused)
    stale = record.dispatch(paused, other)
    (claimed,) = record.claim(record.worker(), stale)
    assert claimed.job_id == other
    record.dispatch(waiting)
    assert recall(record) == 2
    found = [record.states(job_id) for job_id in (paused, other, waiting)]
    assert found == [["ready"] * 2, ["running"], ["dispatched"]]
    assert {page.redispatches for page in record.pages(paused)} == {0}
    assert recall(record) == 0


def test_resuming_recalls_it_as_well_so_that_no_page_waits_for_a_lost_message(record: Record) -> None:
    job_id = record.ready(2)
    pause(record, job_id)
    stale = record.dispatch(job_id)
    assert record.claim(record.worker(), stale) == []
    resume(record, job_id)
    assert record.states(job_id) == ["ready"] * 2
    assert len(record.claim(record.worker(), record.dispatch(job_id))) == 2


def test_pausing_waits_for_a_claim_under_way_whose_pages_run(record: Record) -> None:
    job_id, worker = record.ready(2), record.worker()
    batch = record.dispatch(job_id)
    with record.database.transaction() as session:
        assert len(pages.claim(session, worker, batch.pages)) == 2
        racer = Racer(record.database, lambda s: control.pause(s, record.tenant, job_id, actor=ACTOR))
        assert racer.waits()
    racer.result()
    assert record.states(job_id) == ["running"] * 2


def test_a_pause_is_no_time_in_which_nothing_was_done(record: Record) -> None:
    job_id, _, _ = record.running(4)
    record.settle(*(settlement(page) for page in record.pages(job_id)[:2]))
    pause(record, job_id)
    record.run("UPDATE jobs SET started_at = now() - interval '1 hour', throughput = 7")
    resume(record, job_id)
    with record.database.transaction() as session:
        jobs.sample_throughput(session, 3.0)
    assert record.state(job_id).throughput is None
    record.settle(settlement(record.pages(job_id)[2]))
    record.run("UPDATE jobs SET sampled_at = now() - interval '10 s'")
    with record.database.transaction() as session:
        jobs.sample_throughput(session, 3.0)
    assert record.state(job_id).throughput == pytest.approx(0.1, rel=0.3)
