"""Sweeping messages: a dispatched page returns when its message must be lost, and not while a worker has it."""

import pytest
from builders import Racer, Record
from sqlalchemy.orm import Session

from ocrfleet.states import WorkerState
from ocrfleet.store import control, pages, sweep


@pytest.mark.parametrize(
    ("age", "redispatches", "situation", "lost"),
    [
        (1.0, 0, {"empty": True}, False),
        (2.5, 0, {"empty": True}, True),
        (2.5, 1, {"empty": True}, False),
        (4.5, 1, {"empty": True}, True),
        (50.0, 20, {"empty": True}, False),
        (61.0, 20, {"empty": True}, True),
        (2.5, 0, {}, False),
        (59.0, 0, {}, False),
        (61.0, 0, {}, True),
        (61.0, 0, {"drain": 30.0}, False),
        (91.0, 0, {"drain": 30.0}, True),
        (1.0, 9, {"restarted": True}, False),
        (2.5, 9, {"restarted": True}, True),
        (2.5, 9, {"restarted": True, "empty": True}, True),
    ],
)
def test_a_message_is_lost_by_its_age(
    record: Record, age: float, redispatches: int, situation: dict[str, float], lost: bool
) -> None:
    job_id = record.ready(2)
    record.run("UPDATE pages SET redispatches = :n", n=redispatches)
    batch = record.dispatch(job_id)
    record.age(batch, age)
    assert record.sweep_messages(**situation) == (2 if lost else 0)
    expected = ("ready", None, redispatches + 1) if lost else ("dispatched", batch.id, redispatches)
    assert [(row.state, row.batch_id, row.redispatches) for row in record.pages(job_id)] == [expected] * 2
    assert {(row.losses, row.failures, row.fence) for row in record.pages(job_id)} == {(0, 0, 1)}


def test_a_batch_that_a_live_worker_names_is_not_lost(record: Record) -> None:
    job_id, worker = record.ready(1), record.worker()
    batch = record.dispatch(job_id)
    record.age(batch, 3600)
    record.beat(worker, batch.id)
    assert record.sweep_messages(empty=True, restarted=True) == 0
    record.beat(worker)
    assert record.sweep_messages(empty=True) == 1


@pytest.mark.parametrize("stopped", [True, False])
def test_a_batch_that_only_a_dead_worker_names_is_lost(record: Record, stopped: bool) -> None:
    job_id, worker = record.ready(1), record.worker()
    batch = record.dispatch(job_id)
    record.age(batch, 3600)
    record.beat(worker, batch.id, state=WorkerState.STOPPED if stopped else WorkerState.READY)
    if not stopped:
        record.silence(worker)
    assert record.sweep_messages() == 1
    assert record.states(job_id) == ["ready"]


def test_a_message_that_comes_after_all_finds_no_page(record: Record) -> None:
    job_id, worker = record.ready(1), record.worker()
    late = record.dispatch(job_id)
    record.age(late, 3600)
    assert record.sweep_messages() == 1
    assert record.claim(worker, late) == []
    assert len(record.claim(worker, record.dispatch(job_id))) == 1


def test_running_pages_have_their_message(record: Record) -> None:
    _, _, batch = record.running(1)
    record.age(batch, 3600)
    assert record.sweep_messages(empty=True, restarted=True) == 0


def test_a_sweep_that_meets_a_claim_leaves_the_page_to_its_worker(record: Record) -> None:
    job_id, worker = record.ready(1), record.worker()
    batch = record.dispatch(job_id)
    record.age(batch, 3600)

    def step(session: Session) -> int:
        return sweep.messages(session, 9.0, queue_empty=True, broker_restarted=False, drain_seconds=0.0)

    with record.database.transaction() as session:
        pages.claim(session, worker, batch.pages)
        racer = Racer(record.database, step)
        assert racer.waits()
    assert racer.result() == 0
    assert record.states(job_id) == ["running"]


def test_a_sweep_that_meets_a_cancellation_brings_nothing_back(record: Record) -> None:
    job_id = record.ready(2)
    record.age(record.dispatch(job_id), 3600)

    def step(session: Session) -> int:
        return sweep.messages(session, 9.0, queue_empty=True, broker_restarted=False, drain_seconds=0.0)

    with record.database.transaction() as session:
        control.cancel(session, record.tenant, job_id)
        racer = Racer(record.database, step)
        assert racer.waits()
    assert racer.result() == 0
    assert record.states(job_id) == ["canceled"] * 2
    record.recount()


def test_a_cancellation_that_meets_a_sweep_cancels_what_came_back(record: Record) -> None:
    job_id = record.ready(2)
    record.age(record.dispatch(job_id), 3600)
    with record.database.transaction() as session:
        back = sweep.messages(session, 9.0, queue_empty=True, broker_restarted=False, drain_seconds=0.0)
        racer = Racer(record.database, lambda s: control.cancel(s, record.tenant, job_id))
        assert (back, racer.waits()) == (2, True)
    racer.result()
    assert (record.states(job_id), record.state(job_id).state) == (["canceled"] * 2, "canceled")
    record.recount()
