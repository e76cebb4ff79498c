"""A worker whose engine or store fails page after page: it takes nothing, says why, probes, and comes back."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from fleet_builders import (
    PATIENCE,
    add_job,
    again_now,
    attempts,
    check_record,
    page_states,
    pages,
    results,
    send,
    sql,
    wait_for,
)
from images import encoded, noise
from odd_engines import BrokenEngine, FaultyEngine
from sqlalchemy import text
from structlog.testing import capture_logs
from tcp_proxy import TcpProxy

from ocrfleet import blobs
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.settings import Settings
from ocrfleet.states import WorkerState
from ocrfleet.store import dispatch
from ocrfleet.store.expansion import NewItem
from worker.breaker import LIMIT, Breaker
from worker.engines.null import NullEngine
from worker.heartbeat import Pulse
from worker.locks import WorkerLock
from worker.runner import Runner

Start = Callable[..., Runner]
SOON, NEVER = 0.05, 3600.0


class Intake:
    """Celery's place: what it was told."""

    def __init__(self, runner: Runner) -> None:
        self.told: list[bool] = []
        runner.on_intake(self)

    def __call__(self, *, listen: bool) -> None:
        self.told.append(listen)


def soon() -> Breaker:
    return Breaker(first=SOON, cap=SOON)


def trip(database: Database, runner: Runner) -> UUID:
    """Let 25 of 40 pages fail; returns their job."""
    job_id = add_job(database, 40)
    runner.run(send(database, job_id))
    assert "held back after 25 failures" in (runner.last_error or "")
    return job_id


def charged(database: Database, job_id: UUID) -> set[tuple[int, int]]:
    return {(page.failures, page.losses) for page in pages(database, job_id)}


def test_it_stops_after_25_and_what_has_not_begun_goes_back_at_no_cost(
    database: Database, start_runner: Start
) -> None:
    runner = start_runner(BrokenEngine(in_flight=1), breaker=Breaker(first=NEVER))
    intake = Intake(runner)
    with capture_logs() as logs:
        job_id = trip(database, runner)
    assert runner.state is WorkerState.TRIPPED
    wait_for(lambda: intake.told == [False])
    assert len(attempts(database, job_id)) == LIMIT
    assert charged(database, job_id) == {(0, 0)}
    assert set(page_states(database, job_id)) == {"ready"}
    assert sum(page.due_in <= 0 for page in pages(database, job_id)) >= 40 - LIMIT, (
        "the others wait for nothing"
    )
    (said,) = [line for line in logs if line["event"] == "breaker_opened"]
    assert said["reason"] == runner.last_error
    assert (runner.last_error or "").startswith(
        "held back after 25 failures in a row, the last engine_crashed: "
    )
    check_record(database, job_id)


def test_while_it_is_open_batches_go_back_at_once(database: Database, start_runner: Start) -> None:
    runner = start_runner(BrokenEngine(), breaker=Breaker(first=NEVER))
    trip(database, runner)
    late = add_job(database, 3)
    batch = send(database, late)
    assert runner.run(batch) == 0
    assert [(page.state, page.attempt, page.fence) for page in pages(database, late)] == [("ready", 0, 1)] * 3
    assert runner.held() == []


def test_pages_that_were_being_claimed_when_it_opened_go_back_too(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = BrokenEngine()
    runner = start_runner(engine, breaker=Breaker(first=NEVER))
    late = add_job(database, 3)
    batch = send(database, late)
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with database.transaction() as session:
        session.execute(text("SELECT 1 FROM pages WHERE job_id = :job FOR UPDATE"), {"job": late})
        running = threads.submit(runner.run, batch)
        wait_for(lambda: sql(database, waits))
        trip(database, runner)
    assert running.result(PATIENCE) == 3
    assert not {request.request_id for request in engine.begun} & {
        f"{page}-{fence}" for page, fence in batch.pages
    }
    assert {(page.state, page.failures, page.due_in <= 0) for page in pages(database, late)} == {
        ("ready", 0, True)
    }
    assert attempts(database, late) == []


def test_its_heartbeats_say_so_and_the_dispatcher_does_not_count_it(
    database: Database, start_runner: Start
) -> None:
    runner = start_runner(BrokenEngine(), breaker=Breaker(first=NEVER))
    settings = Settings(heartbeat_interval=NEVER)
    pulse = Pulse(settings, database, runner, WorkerLock(settings), lambda: None)
    pulse.start()
    trip(database, runner)
    pulse.beat()
    (row,) = sql(database, "SELECT * FROM workers")
    assert (row.state, row.last_error) == ("tripped", runner.last_error)
    with database.transaction() as session:
        assert dispatch.capacity(session, 8.0).workers == 0
    pulse.stop()


def test_after_a_probe_one_page_is_tried_and_when_it_is_read_all_goes_on(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = BrokenEngine()
    runner = start_runner(engine, breaker=soon())
    intake = Intake(runner)
    job_id = trip(database, runner)
    engine.broken = False
    wait_for(lambda: runner.state is WorkerState.READY)
    wait_for(lambda: intake.told == [False, True])
    again_now(database, job_id)
    first = send(database, job_id, limit=10)
    trial = threads.submit(runner.run, first)
    wait_for(lambda: engine.now == 1)
    wait_for(lambda: intake.told == [False, True, False])
    again = send(database, job_id, limit=10)
    assert runner.run(again) == 0, "one batch is enough to find out"
    threading.Event().wait(0.1)
    assert engine.now == 1, "and one page of it"
    assert runner.last_error is not None, "until then it says why"
    engine.release()
    assert trial.result(PATIENCE) == 10
    wait_for(lambda: intake.told == [False, True, False, True])
    assert runner.run(send(database, job_id)) == 30
    assert page_states(database, job_id) == ["succeeded"] * 40
    assert charged(database, job_id) == {(0, 0)}
    check_record(database, job_id)


def test_when_the_trial_fails_the_rest_of_its_batch_goes_back(
    database: Database, start_runner: Start
) -> None:
    runner = start_runner(BrokenEngine(), breaker=soon())
    job_id = trip(database, runner)
    before = len(attempts(database, job_id))
    wait_for(lambda: runner.state is WorkerState.READY)
    again_now(database, job_id)
    with capture_logs() as logs:
        assert runner.run(send(database, job_id)) == 40
    assert [line["event"] for line in logs if line["event"].startswith("breaker")][:1] == ["breaker_opened"]
    assert len(attempts(database, job_id)) == before + 1
    assert charged(database, job_id) == {(0, 0)}
    check_record(database, job_id)


def test_a_trial_of_pages_that_tell_nothing_makes_room_for_another(
    database: Database, start_runner: Start
) -> None:
    engine = BrokenEngine()
    runner = start_runner(engine, breaker=soon())
    intake = Intake(runner)
    job_id = trip(database, runner)
    engine.broken = False
    engine.release()
    wait_for(lambda: intake.told == [False, True])
    nothing = add_job(database, 3, task="parse")
    for batch in (send(database, nothing), send(database, nothing)):  # the second names no page at all
        runner.run(batch)
        wait_for(lambda: intake.told[-1])
    assert {line["error"]["code"] for line in results(database, nothing)} == {"unknown_task"}
    assert "held back" in (runner.last_error or "")
    again_now(database, job_id)
    assert runner.run(send(database, job_id)) == 40
    assert runner.last_error is None or "held back" not in runner.last_error


@pytest.fixture
def stored(store: Blobs) -> list[NewItem]:
    """Pages of the real store, as many as open a breaker and some more."""
    folder = f"breaker/{uuid4().hex}"
    items: list[NewItem] = []
    for n in range(30):
        key = f"{folder}/{n}.png"
        store.put("ocr", key, encoded(noise(n)), "image/png")
        items.append(NewItem(n, "ocr", key))
    return items


def test_with_its_store_away_it_waits_until_that_answers(
    database: Database, start_runner: Start, s3: Settings, stored: list[NewItem]
) -> None:
    with TcpProxy(s3.store_url) as proxy:
        far = blobs.connect(s3.model_copy(update={"store_url": proxy.url, "store_timeout": 2.0}))
        runner = start_runner(NullEngine(Settings()), store=far, breaker=soon())
        job_id = add_job(database, stored)
        proxy.cut()
        with capture_logs() as logs:
            runner.run(send(database, job_id))
            wait_for(lambda: [line for line in logs if line["event"] == "breaker_probe_failed"])
        assert runner.state is WorkerState.TRIPPED
        assert "storage_unavailable" in (runner.last_error or "")
        proxy.restore()
        wait_for(lambda: runner.state is WorkerState.READY)
        again_now(database, job_id)
        runner.run(send(database, job_id))
    assert page_states(database, job_id) == ["succeeded"] * 30
    assert charged(database, job_id) == {(0, 0)}
    assert runner.last_error is None or "held back" not in runner.last_error
    check_record(database, job_id)


def test_a_worker_that_drains_probes_no_more(database: Database, start_runner: Start) -> None:
    engine = BrokenEngine()
    runner = start_runner(engine, breaker=soon())
    intake = Intake(runner)
    trip(database, runner)
    runner.drain()
    engine.broken = False
    wait_for(lambda: runner.state is WorkerState.DRAINING)
    told = list(intake.told)
    threading.Event().wait(4 * SOON)
    assert intake.told == told, "Celery is shutting down: it is left alone"


@pytest.mark.parametrize("code", ["prompt_too_long", "output_invalid"])
def test_pages_that_fail_by_themselves_do_not_open_it(
    database: Database, start_runner: Start, code: str
) -> None:
    runner = start_runner(FaultyEngine(), breaker=Breaker(first=NEVER))
    given = [NewItem(n, "ocr", f"{n}.png", options={"fault": code}) for n in range(60)]
    runner.run(send(database, add_job(database, given)))
    assert runner.state is WorkerState.READY
