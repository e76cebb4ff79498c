"""Workers: what the record knows of them, and what a heartbeat is told."""

from uuid import UUID

import pytest
from builders import Record, registered

from ocrfleet.states import Lane, WorkerState
from ocrfleet.store import dispatch, lanes, workers
from ocrfleet.store.lanes import Backlog


def test_registering_twice_is_harmless(record: Record) -> None:
    once = registered(tasks=["text", "spotting"])
    for slots in (8, 9):
        with record.database.transaction() as session:
            again = registered(incarnation=once.incarnation, tasks=once.tasks, slots=slots)
            workers.register(session, again)
    (row,) = record.run("SELECT * FROM workers")
    assert (row.incarnation, row.tasks, row.slots) == (once.incarnation, ["text", "spotting"], 8)


def test_a_heartbeat_keeps_the_one_before_it(record: Record) -> None:
    worker, other = record.worker(), record.worker()
    assert record.beat(worker, 1, 2)
    first = record.run("SELECT * FROM workers WHERE incarnation = :id", id=worker)[0]
    assert record.beat(worker, 2, 3, state=WorkerState.DRAINING)
    row = record.run("SELECT * FROM workers WHERE incarnation = :id", id=worker)[0]
    assert (row.batches, row.previous_batches, row.state, row.in_flight) == ([2, 3], [1, 2], "draining", 2)
    assert row.previous_heartbeat_at == first.heartbeat_at < row.heartbeat_at
    (kept,) = record.run(
        "SELECT batches, previous_heartbeat_at FROM workers WHERE incarnation = :id", id=other
    )
    assert tuple(kept) == ([], None)


def test_an_unknown_worker_is_told_so(record: Record) -> None:
    assert not record.beat(registered().incarnation, 1)


def test_a_worker_is_told_which_of_its_pages_to_abort(record: Record) -> None:
    job_id, worker, _ = record.running(2)
    other_job, other, _ = record.running(1)
    record.dispatch(record.ready(1))

    def to_abort() -> list[tuple[int, int]]:
        with record.database.transaction() as session:
            return sorted(workers.to_abort(session, worker))

    assert to_abort() == []
    record.cancel(other_job)
    assert to_abort() == []
    record.cancel(job_id)
    assert to_abort() == [(page.id, page.fence) for page in record.pages(job_id)]
    assert {page.incarnation for page in record.pages(other_job)} == {other}


def test_the_fleet_tells_who_is_alive(record: Record) -> None:
    alive, silent, stopped = record.worker(name="c"), record.worker(name="b"), record.worker(name="a")
    record.silence(silent, since="now() - interval '1 min'")
    record.beat(stopped, state=WorkerState.STOPPED)
    with record.database.transaction() as session:
        rows = workers.fleet(session, 30.0)
    assert [(row["incarnation"], row["alive"]) for row in rows] == [
        (alive, True),
        (stopped, False),
        (silent, False),
    ]
    assert rows[2]["heartbeat_age"] > 59


def test_tasks_are_those_of_live_engines(record: Record) -> None:
    record.worker(tasks=["text", "spotting"])
    record.worker(tasks=["text"])
    silent = record.worker(tasks=["parse"])
    record.silence(silent, since="now() - interval '1 min'")
    record.beat(record.worker(tasks=["table"]), state=WorkerState.STOPPED)
    with record.database.transaction() as session:
        assert workers.tasks(session, 30.0) == {"text", "spotting"}


@pytest.mark.parametrize("state", [WorkerState.REFUSED, WorkerState.QUARANTINED])
def test_a_worker_that_does_not_work_counts_nowhere_as_a_live_one(record: Record, state: WorkerState) -> None:
    given = registered(tasks=["text"], state=state, last_error="self-test: 2 of 4 pages differ")
    with record.database.transaction() as session:
        workers.register(session, given)
    with record.database.transaction() as session:
        (row,) = workers.fleet(session, 30.0)
        assert (row["alive"], row["state"], row["last_error"]) == (False, state, given.last_error)
        assert workers.tasks(session, 30.0) == set()
        assert dispatch.capacity(session, 30.0).workers == 0
        assert workers.last_error(session, given.name) == given.last_error
        assert workers.last_error(session, "another") is None


def test_the_next_worker_of_its_name_takes_the_place_of_one_that_did_not_work(record: Record) -> None:
    working, stopped = record.worker(name="a"), record.worker(name="a")
    record.beat(stopped, state=WorkerState.STOPPED)
    for state in (WorkerState.REFUSED, WorkerState.QUARANTINED, WorkerState.REFUSED):
        with record.database.transaction() as session:
            workers.register(session, registered(name="a", state=state))
    other = record.worker(name="b", state=WorkerState.QUARANTINED)
    kept = record.run("SELECT incarnation, state FROM workers WHERE name = 'a' ORDER BY started_at")
    assert [row.state for row in kept] == ["ready", "stopped", "refused"]
    again = record.worker(name="a")
    found = {row.incarnation for row in record.run("SELECT incarnation FROM workers")}
    assert found == {working, stopped, other, again}


def test_a_quarantined_device_is_remembered_for_days(record: Record) -> None:
    for days, state in enumerate([WorkerState.REFUSED, WorkerState.QUARANTINED, WorkerState.QUARANTINED]):
        worker = record.worker(name=f"{state}-{days}", state=state)
        record.silence(worker, since=f"now() - interval '{1 + 4 * days} days'")
    with record.database.transaction() as session:
        workers.forget(session, 3600.0)
    assert [row.name for row in record.run("SELECT name FROM workers")] == ["quarantined-1"]


def test_workers_are_forgotten_only_when_they_hold_nothing(record: Record) -> None:
    _, holding, _ = record.running(1)
    idle, fresh = record.worker(), record.worker()
    for worker in (holding, idle):
        record.silence(worker, since="now() - interval '2 hours'")
    with record.database.transaction() as session:
        workers.forget(session, 3600.0)
    assert {row.incarnation for row in record.run("SELECT incarnation FROM workers")} == {holding, fresh}
    assert idle not in {holding, fresh}


def test_the_backlog_of_a_lane_is_what_its_unfinished_jobs_have_left(record: Record) -> None:
    job_id = record.ready(3)
    record.ready(2, lane=Lane.INTERACTIVE)
    record.cancel(record.ready(4))
    record.dispatch(job_id, limit=1)
    with record.database.transaction() as session:
        assert lanes.backlog(session) == {Lane.BULK: Backlog(1, 3), Lane.INTERACTIVE: Backlog(1, 2)}
        assert lanes.unfinished_interactive(session, record.tenant) == (1, 1, False)
        assert lanes.unfinished_interactive(session, UUID(int=1)) == (1, 0, True)
