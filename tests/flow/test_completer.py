"""The completer: an outage delays pages and loses none, refused data fails its own page only."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import pytest
from fleet_builders import (
    PATIENCE,
    add_job,
    attempts,
    check_record,
    job,
    page_states,
    results,
    send,
    sql,
    wait_for,
)
from odd_engines import SlowEngine
from sqlalchemy import text
from structlog.testing import capture_logs
from tcp_proxy import TcpProxy

from ocrfleet.db import Database
from ocrfleet.errors import Internal
from ocrfleet.states import PageState
from ocrfleet.store import outcomes
from ocrfleet.store import pages as store_pages
from ocrfleet.store.settle import Settlement
from worker.runner import Runner
from worker.settle import Completer, Finished

Start = Callable[..., Runner]


@pytest.fixture
def proxy(database_url: str) -> Iterator[TcpProxy]:
    with TcpProxy(database_url) as proxy:
        yield proxy


@pytest.fixture
def far_database(proxy: TcpProxy) -> Iterator[Database]:
    """The database through the proxy."""
    database = Database(proxy.url, application="far")
    yield database
    database.close()


def claim(database: Database, count: int) -> list[Settlement]:
    """The settlements of a job's pages, each succeeded."""
    batch = send(database, add_job(database, count))
    incarnation = uuid4()
    with database.transaction() as session:
        claimed = store_pages.claim(session, incarnation, batch.pages)
    return [
        Settlement(
            page.id, page.fence, page.job_id, page.item_id, page.attempt, PageState.SUCCEEDED, '{"text":"x"}'
        )
        for page in sorted(claimed, key=lambda page: page.id)
    ]


class Done:
    """Counts who was told."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.count += 1


def complete(database: Database, settlements: Sequence[Settlement]) -> int:
    """Settle them in one flush; returns how many were told that they are done."""
    completer, done = Completer(database), Done()
    for settlement in settlements:
        completer.put(Finished(settlement, done))
    completer.start()
    completer.stop(PATIENCE)
    return done.count


def test_what_the_database_refuses_fails_alone(database: Database) -> None:
    settlements = claim(database, 9)
    job_id = settlements[0].job_id
    settlements[4] = replace(settlements[4], body='{"text": not JSON')
    assert complete(database, settlements) == 9
    assert page_states(database, job_id) == ["succeeded"] * 4 + ["dead"] + ["succeeded"] * 4
    (dead,) = [line for line in results(database, job_id) if line["state"] == "dead"]
    assert dead["error"]["code"] == "internal"
    assert "refused" in dead["error"]["detail"]
    assert [one.code for one in attempts(database, job_id)] == ["internal"]
    assert job(database, job_id).state == "completed"
    check_record(database, job_id)


@pytest.mark.parametrize("detail", ["a NUL \x00", "half a character \udc80"])
def test_a_message_that_no_record_takes_fails_its_page_and_not_the_thread(
    database: Database, detail: str
) -> None:
    settlements = claim(database, 3)
    job_id = settlements[0].job_id
    body = outcomes.error_body(Internal("ugly"))
    settlements[1] = replace(settlements[1], state=PageState.DEAD, code="internal", detail=detail, body=body)
    assert complete(database, settlements) == 3
    assert page_states(database, job_id) == ["succeeded", "dead", "succeeded"]
    check_record(database, job_id)


def test_pages_of_a_job_that_was_purged_hold_up_nobody(database: Database) -> None:
    kept, purged = claim(database, 3), claim(database, 2)
    gone = purged[0].job_id
    sql(database, "DELETE FROM jobs WHERE id = :job", job=gone)
    assert complete(database, [kept[0], purged[0], kept[1], purged[1], kept[2]]) == 5
    assert page_states(database, kept[0].job_id) == ["succeeded"] * 3
    check_record(database, kept[0].job_id)


def test_a_settlement_that_comes_twice_or_too_late_counts_once(database: Database) -> None:
    settlements = claim(database, 3)
    job_id = settlements[0].job_id
    late = replace(settlements[0], fence=settlements[0].fence - 1, body='{"text":"late"}')
    assert complete(database, [late]) == 1
    assert page_states(database, job_id) == ["running"] * 3, "its fence has moved on"
    assert complete(database, [late, *settlements]) == 4
    # As after a commit whose answer was lost.
    assert complete(database, settlements) == 3
    assert [line["text"] for line in results(database, job_id)] == ["x"] * 3
    check_record(database, job_id)


def test_an_outage_of_the_database_delays_pages_and_loses_none(
    database: Database,
    far_database: Database,
    proxy: TcpProxy,
    start_runner: Start,
    threads: ThreadPoolExecutor,
) -> None:
    engine = SlowEngine()
    runner = start_runner(engine, database=far_database)
    job_id = add_job(database, 6)
    running = threads.submit(runner.run, send(database, job_id))
    wait_for(lambda: len(engine.begun) == 6)
    proxy.cut()
    engine.release()
    wait_for(lambda: engine.now == runner.in_flight == 0)
    threading.Event().wait(0.5)
    assert page_states(database, job_id) == ["running"] * 6
    assert not running.done()
    assert len(runner.held()) == 1, "their lease goes on, if only heartbeats get through"
    proxy.restore()
    assert running.result(PATIENCE) == 6
    assert page_states(database, job_id) == ["succeeded"] * 6
    assert attempts(database, job_id) == []
    check_record(database, job_id)


def test_a_session_that_ends_in_the_middle_of_a_flush_loses_nothing(
    database: Database, far_database: Database
) -> None:
    settlements = claim(database, 4)
    job_id = settlements[0].job_id
    waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'far' AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as threads:
        with database.transaction() as session:
            session.execute(text("SELECT 1 FROM jobs WHERE id = :job FOR UPDATE"), {"job": job_id})
            told = threads.submit(complete, far_database, settlements)
            (blocked,) = wait_for(lambda: sql(database, waiting))
            sql(database, "SELECT pg_terminate_backend(:pid)", pid=blocked.pid)
            assert page_states(database, job_id) == ["running"] * 4
        assert told.result(PATIENCE) == 4
    assert page_states(database, job_id) == ["succeeded"] * 4
    check_record(database, job_id)


def test_it_stops_in_time_while_the_database_is_away(
    database: Database, far_database: Database, proxy: TcpProxy
) -> None:
    settlements = claim(database, 2)
    completer, done = Completer(far_database), Done()
    proxy.cut()
    for settlement in settlements:
        completer.put(Finished(settlement, done))
    completer.start()
    completer.stop(0.3)
    # Whoever waits for the batch is set free; the pages return by their lease.
    wait_for(lambda: done.count == 2)
    assert page_states(database, settlements[0].job_id) == ["running"] * 2


def test_claims_survive_a_short_outage(
    database: Database,
    far_database: Database,
    proxy: TcpProxy,
    start_runner: Start,
    threads: ThreadPoolExecutor,
) -> None:
    engine = SlowEngine()
    runner = start_runner(engine, database=far_database)
    engine.release()
    job_id = add_job(database, 3)
    batch = send(database, job_id)
    proxy.cut()
    with capture_logs() as logs:
        running = threads.submit(runner.run, batch)
        wait_for(lambda: [line for line in logs if line["event"] == "claim_failed"])
    proxy.restore()
    assert running.result(PATIENCE) == 3
    assert page_states(database, job_id) == ["succeeded"] * 3


def test_a_claim_that_never_got_through_leaves_its_pages_to_the_sweeper(
    database: Database, far_database: Database, proxy: TcpProxy, start_runner: Start
) -> None:
    runner = start_runner(SlowEngine(), database=far_database)
    job_id = add_job(database, 3)
    batch = send(database, job_id)
    proxy.cut()
    assert runner.run(batch) == 0
    assert runner.held() == []
    assert page_states(database, job_id) == ["dispatched"] * 3
