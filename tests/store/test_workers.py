"""Workers: what the record knows of them, and what a heartbeat is told."""

from builders import Record, registered

from ocrfleet.states import Lane, WorkerState
from ocrfleet.store import lanes, workers
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
        assert lanes.unfinished_interactive(session) == 1
