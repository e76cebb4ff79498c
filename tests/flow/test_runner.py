"""The runner: each page is led from claim to settlement, whatever the engine does to it or to its neighbours."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from fleet_builders import (
    PATIENCE,
    add_job,
    again_now,
    attempts,
    check_record,
    job,
    page_states,
    pages,
    results,
    send,
    wait_for,
)
from odd_engines import (
    CrashingEngine,
    FaultyEngine,
    OutOfMemoryEngine,
    PlainEngine,
    PoisonedTextEngine,
    SilentEngine,
    SlowEngine,
)

from ocrfleet.db import Database
from ocrfleet.errors import BY_CODE, RetryClass
from ocrfleet.messages import PageBatch
from ocrfleet.settings import Settings
from ocrfleet.states import Lane
from ocrfleet.store.expansion import NewItem
from worker.engines.null import NullEngine
from worker.runner import Runner

Start = Callable[..., Runner]


def items(*faults: str | None) -> list[NewItem]:
    return [
        NewItem(n, "ocr", f"{n}.png", options={"fault": fault} if fault else None)
        for n, fault in enumerate(faults)
    ]


def test_a_batch_is_led_to_its_results(database: Database, start_runner: Start) -> None:
    runner = start_runner(NullEngine(Settings(null_reads_pixels=False)))
    job_id = add_job(database, 20)
    batch = send(database, job_id)
    assert runner.run(batch) == 20
    assert runner.held() == []
    lines = results(database, job_id)
    assert [line["seq"] for line in lines] == list(range(1, 21))
    assert {line["text"] for line in lines} == {f"{page}-{fence}" for page, fence in batch.pages}
    done = job(database, job_id)
    assert (done.state, done.outcome, done.succeeded) == ("completed", "succeeded", 20)
    check_record(database, job_id)


def test_a_repeated_or_late_message_finds_no_page(database: Database, start_runner: Start) -> None:
    runner = start_runner(PlainEngine())
    job_id = add_job(database, 3)
    batch = send(database, job_id)
    late = PageBatch(batch.batch_id, batch.lane, [(page, fence - 1) for page, fence in batch.pages])
    assert runner.run(late) == 0, "their fence has moved on"
    assert runner.run(batch) == 3
    assert runner.run(batch) == 0
    assert runner.run(PageBatch(7, Lane.BULK, [])) == 0
    assert len(results(database, job_id)) == 3
    check_record(database, job_id)


def test_a_message_repeated_while_its_batch_runs_leaves_the_batch_held(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine()
    runner = start_runner(engine)
    batch = send(database, add_job(database, 3))
    first = threads.submit(runner.run, batch)
    wait_for(lambda: len(engine.begun) == 3)
    assert runner.run(batch) == 0
    assert set(runner.held()) == {batch.batch_id}, "or the sweeper would take its pages away"
    engine.release()
    assert first.result(PATIENCE) == 3
    assert runner.held() == []


@pytest.mark.parametrize(
    "code",
    ["engine_oom", "output_invalid", "engine_crashed", "rate_limited", "internal", "bug", "prompt_too_long"],
)
def test_a_failed_page_goes_by_its_class_and_its_neighbours_are_not_touched(
    database: Database, start_runner: Start, code: str
) -> None:
    runner = start_runner(FaultyEngine())
    job_id = add_job(database, items(None, code, None))
    assert runner.run(send(database, job_id)) == 3
    left, page, right = pages(database, job_id)
    assert (left.state, right.state) == ("succeeded", "succeeded")
    error = BY_CODE["internal" if code == "bug" else code]
    dead = error.retry in (RetryClass.NEVER, RetryClass.CALLER)
    assert page.state == ("dead" if dead else "ready")
    assert page.failures == (0 if error.free else 1)
    assert page.losses == 0
    if not dead:
        assert -1 <= page.due_in <= (1 if error.free else 2)
    (kept,) = attempts(database, job_id)
    assert (kept.page_id, kept.code, kept.attempt) == (page.id, error.code, 1)
    assert kept.incarnation == runner.incarnation
    assert code in kept.detail
    check_record(database, job_id)


def until_terminal(database: Database, runner: Runner, job_id: object, most: int = 8) -> int:
    """Run the job's pages again and again; returns the number of rounds."""
    for n in range(1, most + 1):
        runner.run(send(database, job_id))  # type: ignore[arg-type]
        if set(page_states(database, job_id)) <= {"succeeded", "dead"}:  # type: ignore[arg-type]
            return n
        again_now(database, job_id)  # type: ignore[arg-type]
    return most


@pytest.mark.parametrize(
    ("engine", "code", "tries"), [(OutOfMemoryEngine, "engine_oom", 4), (SilentEngine, "empty_output", 2)]
)
def test_a_page_that_fails_by_itself_is_dead_after_its_tries_with_every_attempt_kept(
    database: Database, start_runner: Start, engine: type[PlainEngine], code: str, tries: int
) -> None:
    runner = start_runner(engine())
    job_id = add_job(database, 1)
    assert until_terminal(database, runner, job_id) == tries
    kept = attempts(database, job_id)
    assert [(one.attempt, one.code) for one in kept] == [(n, code) for n in range(1, tries + 1)]
    (line,) = results(database, job_id)
    assert (line["state"], line["attempt"], line["page"]) == ("dead", tries, 1)
    assert line["error"] == {"code": code, "retryable": True, "detail": kept[-1].detail}
    done = job(database, job_id)
    assert (done.state, done.outcome, done.dead) == ("completed", "failed", 1)
    check_record(database, job_id)


def test_a_page_does_not_pay_for_an_engine_that_crashes(database: Database, start_runner: Start) -> None:
    runner = start_runner(CrashingEngine())
    job_id = add_job(database, 1)
    assert until_terminal(database, runner, job_id, most=6) == 6
    (page,) = pages(database, job_id)
    assert (page.state, page.failures, page.losses, page.attempt) == ("ready", 0, 0, 6)
    assert [one.code for one in attempts(database, job_id)] == ["engine_crashed"] * 6
    assert not runner.healthy()


def test_a_blank_page_is_a_success(database: Database, start_runner: Start) -> None:
    runner = start_runner(SilentEngine())
    job_id = add_job(database, [NewItem(0, "ocr", "0.png", options={"blank": True})])
    runner.run(send(database, job_id))
    (line,) = results(database, job_id)
    assert (line["state"], line["text"], line["warnings"]) == ("succeeded", "", ["blank_page"])


def test_a_page_that_takes_too_long_is_aborted_and_tried_once_more(
    database: Database, start_runner: Start
) -> None:
    engine = SlowEngine()
    runner = start_runner(engine, inference_timeout=0.2)
    job_id = add_job(database, 2)
    assert until_terminal(database, runner, job_id) == 2
    assert page_states(database, job_id) == ["dead", "dead"]
    assert {line["error"]["code"] for line in results(database, job_id)} == {"inference_timeout"}
    assert {line["error"]["limit"] for line in results(database, job_id)} == {0.2}
    assert sorted(engine.aborted) == sorted(request.request_id for request in engine.begun)
    assert len(engine.aborted) == 4
    assert engine.now == 0


def test_text_that_no_record_takes_does_not_stop_the_worker(database: Database, start_runner: Start) -> None:
    runner = start_runner(PoisonedTextEngine())
    job_id = add_job(database, items(None, "internal", None))
    assert until_terminal(database, runner, job_id) == 2
    ugly = {line["key"]: line for line in results(database, job_id)}
    assert [ugly[key]["text"] for key in ("0.png", "2.png")] == ["abc", "abc"]
    assert ugly["0.png"]["warnings"] == ["control_characters_removed"]
    assert ugly["1.png"]["error"]["detail"] == "RuntimeError: half a character ? and \ufffd"
    check_record(database, job_id)


def test_a_task_that_the_engine_cannot_do_is_the_callers_error(
    database: Database, start_runner: Start
) -> None:
    runner = start_runner(PlainEngine())
    job_id = add_job(database, 1, task="parse")
    runner.run(send(database, job_id))
    (line,) = results(database, job_id)
    assert line["error"]["code"] == "unknown_task"
    assert "text" in line["error"]["detail"], "it names what the engine can do"


def test_interactive_pages_enter_before_bulk_pages_that_wait(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine(in_flight=1)
    runner = start_runner(engine)
    bulk = threads.submit(runner.run, send(database, add_job(database, 20)))
    wait_for(lambda: engine.begun)
    one = add_job(database, 1, lane=Lane.INTERACTIVE)
    interactive = threads.submit(runner.run, send(database, one, lane=Lane.INTERACTIVE))
    wait_for(lambda: runner._reading._waiting[Lane.INTERACTIVE])
    engine.release()
    assert (bulk.result(PATIENCE), interactive.result(PATIENCE)) == (20, 1)
    assert engine.lanes().index(Lane.INTERACTIVE) == 1


def test_an_exclusive_page_runs_alone(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine()
    runner = start_runner(engine)
    before = threads.submit(runner.run, send(database, add_job(database, 3)))
    wait_for(lambda: len(engine.begun) == 3)
    suspect = send(database, add_job(database, 1), exclusive=True)
    alone = threads.submit(runner.run, suspect)
    wait_for(lambda: suspect.batch_id in runner.held())
    after = threads.submit(runner.run, send(database, add_job(database, 3)))
    threading.Event().wait(0.2)
    assert len(engine.begun) == 3, "it waits for those that run, and the next wait for it"
    engine.release()
    assert [one.result(PATIENCE) for one in (before, alone, after)] == [3, 1, 3]
    ((page, fence),) = suspect.pages
    assert engine.together[f"{page}-{fence}"] == 1
    assert [request.request_id for request in engine.begun].index(f"{page}-{fence}") == 3


def test_pages_of_an_exclusive_batch_are_claimed_one_after_the_other(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine()
    runner = start_runner(engine)
    job_id = add_job(database, 3)
    alone = threads.submit(runner.run, send(database, job_id, exclusive=True))
    wait_for(lambda: engine.begun)
    # Were the worker to end now, the others could not be blamed: nobody has claimed them.
    assert page_states(database, job_id) == ["running", "dispatched", "dispatched"]
    engine.release()
    assert alone.result(PATIENCE) == 3
    assert set(engine.together.values()) == {1}


def test_draining_finishes_what_runs_and_takes_nothing_new(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine()
    runner = start_runner(engine, drain_timeout=PATIENCE)
    running = threads.submit(runner.run, send(database, add_job(database, 3)))
    wait_for(lambda: len(engine.begun) == 3)
    runner.drain()
    assert runner.draining
    late = add_job(database, 2)
    assert runner.run(send(database, late)) == 0
    assert page_states(database, late) == ["ready"] * 2, "for another worker"
    engine.release()
    assert running.result(PATIENCE) == 3


def test_a_drain_that_takes_too_long_gives_pages_back_at_no_cost(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor
) -> None:
    engine = SlowEngine(in_flight=2)
    runner = start_runner(engine, drain_timeout=0.2)
    # More than fit into the engine: some run, some wait for it.
    job_id = add_job(database, 20)
    running = threads.submit(runner.run, send(database, job_id))
    wait_for(lambda: len(engine.begun) == 2)
    runner.drain()
    assert running.result(PATIENCE) == 20
    found = pages(database, job_id)
    assert {(page.state, page.failures, page.losses) for page in found} == {("ready", 0, 0)}
    assert all(page.due_in <= 0 for page in found)
    assert len(engine.aborted) == 2
    assert attempts(database, job_id) == []
    check_record(database, job_id)
