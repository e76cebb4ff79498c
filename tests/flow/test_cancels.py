"""Cancellations that a worker hears of at once; no heartbeat beats here."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fleet_builders import PATIENCE, add_job, check_record, job, page_states, send, sql, tenant_id, wait_for
from odd_engines import SlowEngine
from structlog.testing import capture_logs

from ocrfleet import failpoints
from ocrfleet.db import Database
from ocrfleet.errors import InputNotFound
from ocrfleet.store import control
from worker.cancels import Cancels
from worker.runner import Runner

Start = Callable[..., Runner]
LISTENERS = """
    SELECT pid FROM pg_stat_activity
    WHERE application_name = 'ocrfleet-worker-listen' AND datname = current_database() AND query LIKE 'LISTEN%'"""


@pytest.fixture
def engine() -> SlowEngine:
    return SlowEngine()


@pytest.fixture
def runner(database: Database, start_runner: Start, engine: SlowEngine) -> Iterator[Runner]:
    """One that is told of cancellations; its pages run until they are."""
    runner = start_runner(engine)
    cancels = Cancels(database, runner)
    cancels.start()
    wait_for(lambda: sql(database, LISTENERS))
    yield runner
    cancels.stop()


def cancel(database: Database, job_id: object) -> None:
    with database.transaction() as session:
        control.cancel(session, tenant_id(session), job_id)  # type: ignore[arg-type]


def test_pages_of_a_canceled_job_are_aborted_and_no_others(
    database: Database, runner: Runner, engine: SlowEngine, threads: ThreadPoolExecutor
) -> None:
    canceled, kept = add_job(database, 3), add_job(database, 2)
    batch = send(database, canceled)
    one, two = threads.submit(runner.run, batch), threads.submit(runner.run, send(database, kept))
    wait_for(lambda: len(engine.begun) == 5)
    cancel(database, canceled)
    assert one.result(PATIENCE) == 3
    assert sorted(engine.aborted) == [f"{page}-{fence}" for page, fence in batch.pages]
    assert (job(database, canceled).state, page_states(database, kept)) == ("canceled", ["running"] * 2)
    engine.release()
    assert two.result(PATIENCE) == 2
    for job_id in (canceled, kept):
        check_record(database, job_id)


def test_so_are_those_of_a_job_whose_expansion_failed(
    database: Database, runner: Runner, engine: SlowEngine, threads: ThreadPoolExecutor
) -> None:
    job_id = add_job(database, 2)
    sql(database, "UPDATE jobs SET listed_at = NULL, expanded_at = NULL")
    running = threads.submit(runner.run, send(database, job_id))
    wait_for(lambda: len(engine.begun) == 2)
    with database.transaction() as session:
        control.fail(session, job_id, InputNotFound())
    assert running.result(PATIENCE) == 2
    assert page_states(database, job_id) == ["canceled"] * 2


def test_a_page_that_is_claimed_and_that_its_runner_does_not_know_yet_is_aborted_a_little_later(
    database: Database, runner: Runner, threads: ThreadPoolExecutor
) -> None:
    failpoints.arm("worker.claimed=pause:0.3@1")
    try:
        job_id = add_job(database, 2)
        running = threads.submit(runner.run, send(database, job_id))
        wait_for(lambda: page_states(database, job_id) == ["running"] * 2)
        cancel(database, job_id)
        assert running.result(PATIENCE) == 2
    finally:
        failpoints.arm("")
    assert page_states(database, job_id) == ["canceled"] * 2


def test_it_hears_on_after_its_connection_broke(
    database: Database, runner: Runner, engine: SlowEngine, threads: ThreadPoolExecutor
) -> None:
    ((pid,),) = sql(database, LISTENERS)
    sql(database, "SELECT pg_terminate_backend(:pid)", pid=pid)
    wait_for(lambda: [row.pid for row in sql(database, LISTENERS) if row.pid != pid])
    job_id = add_job(database, 1)
    running = threads.submit(runner.run, send(database, job_id))
    wait_for(lambda: len(engine.begun) == 1)
    cancel(database, job_id)
    assert running.result(PATIENCE) == 1


def test_a_record_that_cannot_be_asked_does_not_end_the_listening(
    database: Database, runner: Runner, engine: SlowEngine, threads: ThreadPoolExecutor
) -> None:
    job_id = add_job(database, 1)
    running = threads.submit(runner.run, send(database, job_id))
    wait_for(lambda: len(engine.begun) == 1)
    with capture_logs() as logs:
        sql(database, "ALTER TABLE pages RENAME COLUMN incarnation TO hidden")
        sql(database, "SELECT pg_notify('ocrfleet_cancel', '')")
        wait_for(lambda: "cancel_unheard" in {entry["event"] for entry in logs})
        sql(database, "ALTER TABLE pages RENAME COLUMN hidden TO incarnation")
    cancel(database, job_id)
    assert running.result(PATIENCE) == 1
