"""Sweeping leases: what a dead worker held runs again, and a page is blamed last."""

from uuid import UUID

import pytest
from builders import TIMEOUT, Racer, Record, settlement
from sqlalchemy import text
from sqlalchemy.orm import Session

from ocrfleet.states import PageState, WorkerState
from ocrfleet.store import jobs, settle, sweep, workers
from ocrfleet.store.sweep import Swept

RESTART = "pg_postmaster_start_time() - interval '1 s'"


def lose(record: Record, job_id: UUID, worker: UUID | None = None) -> Swept:
    """Let the job's next page run on a worker that then falls silent."""
    worker = worker or record.worker()
    assert len(record.claim(worker, record.dispatch(job_id, limit=1))) == 1
    record.silence(worker)
    return record.sweep()


def test_pages_of_a_silent_worker_run_again_at_the_cost_of_a_loss(record: Record) -> None:
    job_id, silent, _ = record.running(2)
    other_job, _, _ = record.running(2)
    record.silence(silent)
    assert record.sweep() == Swept(lost=2, unheld=0, poisoned=0)
    rows = record.pages(job_id)
    assert [(row.state, row.losses, row.failures, row.fence) for row in rows] == [("ready", 1, 0, 1)] * 2
    assert record.states(other_job) == ["running"] * 2
    kept = record.run("SELECT incarnation, exclusive, code FROM attempts")
    assert [tuple(row) for row in kept] == [(silent, 0, "worker_lost")] * 2
    assert len(record.dispatch(job_id).pages) == 2
    record.recount()


@pytest.mark.parametrize("forgotten", [True, False])
def test_pages_of_a_worker_that_stopped_or_is_unknown_run_again(record: Record, forgotten: bool) -> None:
    job_id, worker, _ = record.running(1)
    if forgotten:
        record.run("DELETE FROM workers")
    else:
        record.beat(worker, state=WorkerState.STOPPED)
    assert record.sweep().lost == 1
    assert record.states(job_id) == ["ready"]


def test_pages_of_a_worker_that_beats_stay(record: Record) -> None:
    job_id, worker, batch = record.running(2)
    assert record.sweep() == Swept(0, 0, 0)
    for _ in range(3):
        record.beat(worker, batch.id)
        assert record.sweep() == Swept(0, 0, 0)
    record.beat(worker, batch.id, state=WorkerState.DRAINING)
    assert record.sweep() == Swept(0, 0, 0)
    assert record.states(job_id) == ["running"] * 2


def test_a_page_missing_from_two_later_heartbeats_goes_back_at_no_cost(record: Record) -> None:
    """A claim whose answer was lost: the worker lives, and does not know of the page."""
    job_id, worker, batch = record.running(1)
    record.beat(worker)
    assert record.sweep() == Swept(0, 0, 0)
    record.beat(worker, batch.id + 1)
    assert record.sweep() == Swept(lost=0, unheld=1, poisoned=0)
    (page,) = record.pages(job_id)
    assert (page.state, page.losses, page.failures) == ("ready", 0, 0)
    assert record.run("SELECT * FROM attempts") == []
    record.recount()


def test_a_batch_named_in_one_of_two_heartbeats_is_held(record: Record) -> None:
    job_id, worker, batch = record.running(1)
    for named in ([batch.id], [], [batch.id], []):
        record.beat(worker, *named)
        assert record.sweep() == Swept(0, 0, 0)
    assert record.states(job_id) == ["running"]


def test_a_worker_that_beats_before_the_sweep_keeps_its_pages(record: Record) -> None:
    job_id, worker, batch = record.running(1)
    record.silence(worker)
    record.beat(worker, batch.id)
    assert record.sweep() == Swept(0, 0, 0)
    assert record.states(job_id) == ["running"]


def test_a_worker_that_beats_while_the_sweep_runs_keeps_its_pages(record: Record) -> None:
    """The sweeper has found the lease void, and repeats the condition in its UPDATE."""
    job_id, worker, _ = record.running(1)
    record.silence(worker)
    with record.database.transaction() as session:
        jobs.lock(session, [job_id])
        racer = Racer(record.database, lambda s: sweep.leases(s, TIMEOUT))
        assert racer.waits()
        record.run("UPDATE workers SET heartbeat_at = now() + interval '1 hour'")
    assert racer.result() == Swept(0, 0, 0)
    assert record.states(job_id) == ["running"]
    record.recount()


def test_a_result_that_meets_a_sweep_is_refused(record: Record) -> None:
    job_id, worker, _ = record.running(1)
    (page,) = record.pages(job_id)
    record.silence(worker)
    with record.database.transaction() as session:
        assert sweep.leases(session, TIMEOUT).lost == 1
        late = Racer(record.database, lambda s: settle.settle(s, [settlement(page)]))
        assert late.waits()
    assert late.result() == set()
    assert record.states(job_id) == ["ready"]
    record.recount()


def test_a_sweep_that_meets_a_result_leaves_the_page_alone(record: Record) -> None:
    job_id, worker, _ = record.running(1)
    record.silence(worker)
    with record.database.transaction() as session:
        settle.settle(session, [settlement(page) for page in record.pages(job_id)])
        racer = Racer(record.database, lambda s: sweep.leases(s, TIMEOUT))
        assert racer.waits()
    assert racer.result() == Swept(0, 0, 0)
    (page,) = record.pages(job_id)
    assert (page.state, page.losses) == ("succeeded", 0)
    record.recount()


def test_two_sweepers_charge_one_loss(record: Record) -> None:
    job_id, worker, _ = record.running(3)
    record.silence(worker)

    def step(session: Session) -> Swept:
        return sweep.leases(session, TIMEOUT)

    with record.database.transaction() as session:
        assert step(session).lost == 3
        second = Racer(record.database, step)
        assert second.waits()
    assert second.result() == Swept(0, 0, 0)
    assert [row.losses for row in record.pages(job_id)] == [1] * 3
    record.recount()


def test_no_loss_is_charged_when_the_database_restarted_after_the_heartbeat(record: Record) -> None:
    job_id, worker, _ = record.running(1)
    record.silence(worker, since=RESTART)
    assert record.sweep() == Swept(lost=0, unheld=1, poisoned=0)
    (page,) = record.pages(job_id)
    assert (page.state, page.losses, record.run("SELECT * FROM attempts")) == ("ready", 0, [])


def test_no_lease_expires_before_the_database_has_run_for_the_timeout(record: Record) -> None:
    job_id, worker, _ = record.running(1)
    record.silence(worker, since="pg_postmaster_start_time() - interval '1 hour'")
    age = record.scalar("SELECT extract(epoch FROM now() - pg_postmaster_start_time())")
    with record.database.transaction() as session:
        assert sweep.leases(session, float(age) + 60.0) == Swept(0, 0, 0)
    assert record.states(job_id) == ["running"]
    assert record.sweep().unheld == 1


def test_pages_of_a_worker_that_is_known_to_be_dead_wait_for_nothing(record: Record) -> None:
    job_id, worker, _ = record.running(2)
    other_job, _, _ = record.running(1)
    with record.database.transaction() as session:
        workers.bury(session, worker)
    age = record.scalar("SELECT extract(epoch FROM now() - pg_postmaster_start_time())")
    with record.database.transaction() as session:
        began = sweep.clock(session)
    with record.database.transaction() as session:
        swept = sweep.leases(session, float(age) + 60.0, since=began, grace=60.0)
    assert swept.lost + swept.unheld == 2
    assert record.states(job_id) == ["ready"] * 2
    assert record.states(other_job) == ["running"]


def test_no_loss_is_charged_for_what_went_before_the_sweepers_session(record: Record) -> None:
    """Whatever ended the leader's last session may have kept the workers from the database as well."""
    job_id, worker, _ = record.running(1)
    record.silence(worker)
    with record.database.transaction() as session:
        began = sweep.clock(session)
    with record.database.transaction() as session:
        assert sweep.leases(session, TIMEOUT, since=began, grace=60.0) == Swept(0, 0, 0)
    with record.database.transaction() as session:
        assert sweep.leases(session, TIMEOUT, since=began) == Swept(lost=0, unheld=1, poisoned=0)
    assert [(page.state, page.losses) for page in record.pages(job_id)] == [("ready", 0)]


@pytest.mark.parametrize(("code", "poisoned"), [("engine_crashed", 1), ("storage_unavailable", 0)])
def test_an_engine_that_a_page_has_crashed_is_a_proof_too(record: Record, code: str, poisoned: int) -> None:
    job_id = record.ready(1)
    lose(record, job_id)
    lose(record, job_id)
    worker = record.worker()
    (page,) = record.claim(worker, record.dispatch(job_id))
    assert page.proofs == 0
    record.settle(settlement(page, PageState.READY, code=code, incarnation=worker, exclusive=True))
    (page,) = record.claim(record.worker(), record.dispatch(job_id))
    assert page.proofs == poisoned
    record.settle(settlement(page, PageState.READY))
    assert lose(record, job_id).poisoned == poisoned


def test_two_exclusive_losses_on_different_workers_make_a_page_poison(record: Record) -> None:
    job_id = record.ready(1)
    for losses in (1, 2, 3):
        assert lose(record, job_id) == Swept(lost=1, unheld=0, poisoned=0)
        assert record.pages(job_id)[0].losses == losses
    assert lose(record, job_id) == Swept(lost=1, unheld=0, poisoned=1)
    job = record.state(job_id)
    assert (record.states(job_id), job.state, job.outcome) == (["dead"], "completed", "failed")
    kept = record.run("SELECT exclusive, code FROM attempts ORDER BY fence")
    assert [tuple(row) for row in kept] == [
        (0, "worker_lost"),
        (0, "worker_lost"),
        (1, "worker_lost"),
        (1, "poison_page"),
    ]
    ((_, line),) = record.lines(job_id)
    assert b'"code":"poison_page"' in line
    record.recount()


def test_exclusive_losses_on_one_worker_are_one_proof(record: Record) -> None:
    """A worker that freezes again and again says little about the page."""
    job_id, worker = record.ready(1), record.worker()
    for _ in range(6):
        assert lose(record, job_id, worker) == Swept(lost=1, unheld=0, poisoned=0)
        record.beat(worker)
    assert lose(record, job_id).poisoned == 1


def test_what_costs_nothing_proves_nothing(record: Record) -> None:
    job_id = record.ready(1)
    for _ in range(3):
        lose(record, job_id)
    worker = record.worker()
    record.claim(worker, record.dispatch(job_id))
    record.silence(worker, since=RESTART)
    assert record.sweep() == Swept(lost=0, unheld=1, poisoned=0)
    assert record.states(job_id) == ["ready"]


def test_pages_of_a_canceling_job_are_canceled_by_the_sweep(record: Record) -> None:
    job_id, worker, _ = record.running(2)
    record.cancel(job_id)
    record.silence(worker)
    record.sweep()
    assert (record.states(job_id), record.state(job_id).state) == (["canceled"] * 2, "canceled")
    record.recount()


def test_a_sweep_takes_no_more_than_its_limit(record: Record) -> None:
    job_id, worker, _ = record.running(3)
    record.silence(worker)
    with record.database.transaction() as session:
        assert sweep.leases(session, TIMEOUT, limit=2).lost == 2
        assert session.execute(text("SELECT count(*) FROM pages WHERE state = 'running'")).scalar() == 1
    assert record.sweep().lost == 1
    assert record.states(job_id) == ["ready"] * 3


def test_a_lost_page_keeps_its_place_before_those_that_have_not_run(record: Record) -> None:
    job_id = record.ready(5)
    first = [page.id for page in record.pages(job_id)[:2]]
    worker = record.worker()
    record.claim(worker, record.dispatch(job_id, limit=2))
    record.silence(worker)
    assert record.sweep().lost == 2
    assert [page for page, _ in record.dispatch(job_id, limit=2).pages] == first
