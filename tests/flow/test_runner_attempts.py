"""The runner keeps the engine fed by the engine's own word, and tries a page that failed in another way."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from fleet_builders import (
    PATIENCE,
    add_job,
    again_now,
    attempts,
    check_record,
    pages,
    results,
    send,
    wait_for,
)
from odd_engines import DeadlyPageEngine, FaultyEngine, SlowEngine

from ocrfleet.db import Database
from ocrfleet.store.expansion import NewItem
from worker.runner import Runner

Start = Callable[..., Runner]


def test_what_the_engine_wants_is_asked_again_while_pages_wait(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine(in_flight=2)
    runner = start_runner(engine)
    batch = threads.submit(runner.run, send(database, add_job(database, 6)))
    wait_for(lambda: len(engine.begun) == 2)
    threading.Event().wait(0.1)
    assert len(engine.begun) == 2
    engine.in_flight = 5
    wait_for(lambda: len(engine.begun) == 5)
    engine.release()
    assert batch.result(PATIENCE) == 6


def test_each_attempt_escalates_and_is_recorded_with_its_parameters(
    database: Database, start_runner: Start
) -> None:
    engine = FaultyEngine()
    runner = start_runner(engine)
    job_id = add_job(database, [NewItem(0, "ocr", "a.png", options={"fault": "repetition_loop"})])
    for _ in range(4):
        runner.run(send(database, job_id))
        again_now(database, job_id)
    asked = [request.parameters for request in engine.begun]
    assert [one.temperature for one in asked] == [0.0, 0.0, 0.3, 0.3]
    assert asked[0].repetition_penalty < asked[1].repetition_penalty
    assert [one.max_pixels for one in asked] == [None, None, None, 1_700_000]
    kept = [attempt.parameters for attempt in attempts(database, job_id)]
    assert [one["temperature"] for one in kept] == [0.0, 0.0, 0.3, 0.3]
    (line,) = results(database, job_id)
    assert (line["state"], line["error"]["code"]) == ("dead", "repetition_loop")
    check_record(database, job_id)


def test_a_page_that_ends_its_process_each_time_becomes_poison_and_its_neighbours_do_not_notice(
    database: Database, start_runner: Start
) -> None:
    runner = start_runner(DeadlyPageEngine())
    given = [NewItem(n, "ocr", f"{n}.png", options={"deadly": True} if n == 1 else None) for n in range(3)]
    job_id = add_job(database, given)
    for exclusive in (False, False, True, True):
        again_now(database, job_id)
        assert runner.run(send(database, job_id, exclusive=exclusive))
    left, deadly, right = pages(database, job_id)
    assert [(page.state, page.attempt, page.losses) for page in (left, right)] == [("succeeded", 1, 0)] * 2
    assert (deadly.state, deadly.losses) == ("dead", 4)
    kept = [(one.exclusive, one.code) for one in attempts(database, job_id)]
    assert kept == [(0, "engine_crashed")] * 2 + [(1, "engine_crashed"), (1, "poison_page")]
    check_record(database, job_id)


def test_an_attempt_that_failed_keeps_how_long_its_phases_took(
    database: Database, start_runner: Start
) -> None:
    runner = start_runner(FaultyEngine())
    job_id = add_job(database, [NewItem(0, "ocr", "a.png", options={"fault": "engine_oom"})])
    runner.run(send(database, job_id))
    (kept,) = attempts(database, job_id)
    assert kept.timings_ms.keys() == {"queue", "wait", "infer"}
