"""Heartbeats: what a worker says of itself, and what it hears of its pages."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fleet_builders import (
    PATIENCE,
    add_job,
    check_record,
    job,
    page_states,
    pages,
    send,
    sql,
    tenant_id,
    wait_for,
)
from odd_engines import CrashingEngine, PlainEngine, PoisonedTextEngine, SlowEngine
from sqlalchemy import Row

from ocrfleet.db import Database
from ocrfleet.settings import Settings
from ocrfleet.states import Lane
from ocrfleet.store import control, dispatch
from ocrfleet.store.expansion import NewItem
from worker.heartbeat import Pulse
from worker.locks import WorkerLock
from worker.runner import Runner

Start = Callable[..., Runner]
NEVER = 3600.0


class Pulses:
    """Pulses that a test beats by hand, unless it says how often they do it themselves."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._started: list[Pulse] = []
        self.deaths: list[Runner] = []

    def __call__(self, runner: Runner, *, interval: float = NEVER) -> Pulse:
        settings = Settings(heartbeat_interval=interval, slots=8, worker_name="test")
        pulse = Pulse(
            settings, self._database, runner, WorkerLock(settings), lambda: self.deaths.append(runner)
        )
        pulse.start()
        self._started.append(pulse)
        return pulse

    def stop(self) -> None:
        for pulse in self._started:
            pulse.stop()


@pytest.fixture
def start_pulse(database: Database) -> Iterator[Pulses]:
    pulses = Pulses(database)
    yield pulses
    pulses.stop()


def workers(database: Database) -> list[Row[tuple[object, ...]]]:
    return list(sql(database, "SELECT * FROM workers ORDER BY started_at"))


def test_a_worker_registers_with_all_that_the_dispatcher_asks(
    database: Database, start_runner: Start, start_pulse: Pulses
) -> None:
    runner = start_runner(PlainEngine(in_flight=28))
    start_pulse(runner)
    (row,) = workers(database)
    assert (row.incarnation, row.engine, row.tasks) == (runner.incarnation, "odd", ["text"])
    assert (row.slots, row.in_flight_target, row.state) == (8, 28, "ready")
    with database.transaction() as session:
        assert dispatch.capacity(session, 8.0) == dispatch.Capacity(1, 8, 28, 0.0)


def test_it_names_the_batches_it_holds_and_keeps_those_of_the_heartbeat_before(
    database: Database, start_runner: Start, start_pulse: Pulses, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine()
    runner = start_runner(engine)
    pulse = start_pulse(runner)
    batch = send(database, add_job(database, 3))
    running = threads.submit(runner.run, batch)
    wait_for(lambda: len(engine.begun) == 3)
    pulse.beat()
    (row,) = workers(database)
    assert (row.batches, row.in_flight) == ([batch.batch_id], 3)
    engine.release()
    assert running.result(PATIENCE) == 3
    pulse.beat()
    (row,) = workers(database)
    assert (row.batches, row.previous_batches, row.in_flight) == ([], [batch.batch_id], 0)
    assert row.previous_heartbeat_at < row.heartbeat_at
    assert row.pages_per_second > 0
    pulse.beat()
    assert workers(database)[0].previous_batches == []


def test_a_worker_that_the_record_forgot_registers_again(
    database: Database, start_runner: Start, start_pulse: Pulses
) -> None:
    runner = start_runner(PlainEngine())
    pulse = start_pulse(runner)
    sql(database, "DELETE FROM workers")
    pulse.beat()
    (row,) = workers(database)
    assert (row.incarnation, row.state) == (runner.incarnation, "ready")


def test_it_beats_by_itself_and_says_when_it_drains_and_stops(
    database: Database, start_runner: Start, start_pulse: Pulses
) -> None:
    runner = start_runner(PlainEngine())
    pulse = start_pulse(runner, interval=0.05)
    first = workers(database)[0].heartbeat_at
    wait_for(lambda: workers(database)[0].heartbeat_at > first)
    runner.drain()
    wait_for(lambda: workers(database)[0].state == "draining")
    with database.transaction() as session:
        assert dispatch.capacity(session, 8.0).workers == 0, "nothing more is sent to it"
    pulse.stop()
    assert workers(database)[0].state == "stopped"


def test_pages_of_a_canceled_job_are_aborted_by_the_next_heartbeat_and_no_others(
    database: Database, start_runner: Start, start_pulse: Pulses, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine()
    runner = start_runner(engine)
    pulse = start_pulse(runner)
    canceled, kept = add_job(database, 5), add_job(database, 2)
    batch = send(database, canceled, limit=3)
    one, two = threads.submit(runner.run, batch), threads.submit(runner.run, send(database, kept))
    wait_for(lambda: len(engine.begun) == 5)
    with database.transaction() as session:
        control.cancel(session, tenant_id(session), canceled)
    assert sorted(page_states(database, canceled)) == ["canceled"] * 2 + ["running"] * 3
    pulse.beat()
    assert one.result(PATIENCE) == 3
    assert page_states(database, canceled) == ["canceled"] * 5
    assert sorted(engine.aborted) == [f"{page}-{fence}" for page, fence in batch.pages]
    assert job(database, canceled).state == "canceled"
    engine.release()
    assert two.result(PATIENCE) == 2
    assert page_states(database, kept) == ["succeeded"] * 2
    for job_id in (canceled, kept):
        check_record(database, job_id)


def test_a_result_that_comes_after_the_cancellation_is_refused(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine()
    runner = start_runner(engine)
    job_id = add_job(database, 2)
    running = threads.submit(runner.run, send(database, job_id))
    wait_for(lambda: len(engine.begun) == 2)
    with database.transaction() as session:
        control.cancel(session, tenant_id(session), job_id)
    engine.release()
    assert running.result(PATIENCE) == 2
    assert page_states(database, job_id) == ["canceled"] * 2
    assert sql(database, "SELECT 1 FROM outcomes") == []
    check_record(database, job_id)


def test_pages_can_be_aborted_while_they_wait_and_again_and_unknown_ones(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine(in_flight=1)
    runner = start_runner(engine)
    job_id = add_job(database, 12)
    batch = send(database, job_id)
    running = threads.submit(runner.run, batch)
    wait_for(lambda: len(engine.begun) == 1)
    for _ in range(3):
        runner.abort([*batch.pages, (999_999, 1)])
    assert running.result(PATIENCE) == 12
    assert {(page.state, page.failures) for page in pages(database, job_id)} == {("ready", 0)}
    # A turn that is given up may go to one that is aborted next.
    assert engine.now == 0
    assert sorted(engine.aborted) == sorted({request.request_id for request in engine.begun})


def test_a_page_aborted_the_moment_it_is_claimed_is_settled_too(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine()
    runner = start_runner(engine)
    blocked, go = threading.Event(), threading.Event()

    def hold_the_loop() -> None:
        blocked.set()
        go.wait(PATIENCE)

    # The loop is busy: what is asked of it next happens in one turn, before a page's first step.
    engine.loop.call_soon_threadsafe(hold_the_loop)
    assert blocked.wait(PATIENCE)
    job_id = add_job(database, 2)
    batch = send(database, job_id)
    running = threads.submit(runner.run, batch)
    wait_for(lambda: "_spawn" in str(list(engine.loop._ready)))  # type: ignore[attr-defined]
    runner.abort(batch.pages)
    go.set()
    assert running.result(PATIENCE) == 2
    assert page_states(database, job_id) == ["ready"] * 2


@pytest.mark.parametrize("fault", [None, "internal"])
def test_an_ugly_message_of_the_engine_does_not_stop_the_heartbeats(
    database: Database, start_runner: Start, start_pulse: Pulses, fault: str | None
) -> None:
    runner = start_runner(PoisonedTextEngine())
    pulse = start_pulse(runner)
    options = {"fault": fault} if fault else None
    runner.run(send(database, add_job(database, [NewItem(0, "ocr", "0.png", options=options)])))
    pulse.beat()
    (row,) = workers(database)
    assert row.last_error == (fault and "internal: RuntimeError: half a character ? and \ufffd")


def test_a_worker_whose_engine_is_beyond_help_leaves(
    database: Database, start_runner: Start, start_pulse: Pulses
) -> None:
    runner = start_runner(CrashingEngine())
    left = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: left.set())
    try:
        start_pulse(runner, interval=0.05)
        runner.run(send(database, add_job(database, 1)))
        wait_for(left.is_set)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert start_pulse.deaths == [runner]


def test_two_workers_hold_what_is_theirs(
    database: Database, start_runner: Start, start_pulse: Pulses, threads: ThreadPoolExecutor
) -> None:
    engines = [SlowEngine(), SlowEngine()]
    runners = [start_runner(engine) for engine in engines]
    pulses = [start_pulse(runner) for runner in runners]
    job_id = add_job(database, 4)
    batches = [send(database, job_id, limit=2), send(database, job_id, limit=2, lane=Lane.BULK)]
    running = [threads.submit(runner.run, batch) for runner, batch in zip(runners, batches, strict=True)]
    wait_for(lambda: [len(engine.begun) for engine in engines] == [2, 2])
    for pulse in pulses:
        pulse.beat()
    assert {row.incarnation: row.batches for row in workers(database)} == {
        runner.incarnation: [batch.batch_id] for runner, batch in zip(runners, batches, strict=True)
    }
    for engine in engines:
        engine.release()
    assert [one.result(PATIENCE) for one in running] == [2, 2]
    check_record(database, job_id)
