"""Leadership: one leads, whoever loses the session loses the lead, and the next takes it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fleet_builders import (
    PATIENCE,
    add_job,
    add_worker,
    check_record,
    leaders,
    page_states,
    pages,
    sql,
    wait_for,
)
from sqlalchemy import text

from ocrfleet.db import Database
from ocrfleet.settings import Settings, child_environment
from producer.leader import Leader

HOUR = 3600.0


class Candidate:
    """A leader on a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self.stop = threading.Event()
        self.thread = threading.Thread(target=Leader(settings).run, args=(self.stop,))
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


Candidates = Callable[..., Candidate]


@pytest.fixture
def settings(database_url: str, broker_url: str) -> Settings:
    return Settings(database_url=database_url, broker_url=broker_url, heartbeat_timeout=HOUR)


@pytest.fixture
def candidate(settings: Settings) -> Iterator[Candidates]:
    with ExitStack() as stack:

        def start(**changes: Any) -> Candidate:
            one = Candidate(settings.model_copy(update=changes))
            stack.callback(one.end)
            return one

        yield start


def test_of_two_candidates_one_leads_and_the_other_takes_over_when_it_stops(
    database: Database, candidate: Candidates
) -> None:
    first = candidate()
    (leader,) = wait_for(lambda: leaders(database))
    candidate()
    add_worker(database, in_flight=28)
    job_id = add_job(database, 30)
    wait_for(lambda: page_states(database, job_id) == ["dispatched"] * 30)
    assert {page.fence for page in pages(database, job_id)} == {1}, "dispatched once"
    assert leaders(database) == [leader]
    first.end()
    wait_for(lambda: len(now := leaders(database)) == 1 and now != [leader])


def test_a_leader_whose_session_ends_leads_no_more_and_stands_again(
    database: Database, candidate: Candidates
) -> None:
    candidates = [candidate(), candidate()]
    add_worker(database, slots=8, in_flight=28)
    for _ in range(3):
        (leader,) = wait_for(lambda: leaders(database))
        sql(database, "SELECT pg_terminate_backend(:pid)", pid=leader)
        wait_for(lambda before=leader: len(now := leaders(database)) == 1 and now != [before])  # type: ignore[misc]
    # Both still stand.
    assert all(one.thread.is_alive() for one in candidates)
    job_id = add_job(database, 20)
    wait_for(lambda: page_states(database, job_id) == ["dispatched"] * 20)
    assert {page.fence for page in pages(database, job_id)} == {1}
    check_record(database, job_id)


def test_a_frozen_leader_loses_the_lead_and_does_not_get_it_back(
    database: Database, settings: Settings, candidate: Candidates
) -> None:
    environment = child_environment(
        OCRFLEET_DATABASE_URL=settings.database_url,
        OCRFLEET_BROKER_URL=settings.broker_url,
        OCRFLEET_LEADER_TIMEOUT="2",
    )
    process = subprocess.Popen([sys.executable, "-m", "producer", "dispatch"], env=environment)
    try:
        (frozen,) = wait_for(lambda: leaders(database))
        # It goes on leading for longer than its timeout as long as it is not frozen.
        threading.Event().wait(3)
        assert leaders(database) == [frozen]
        process.send_signal(signal.SIGSTOP)
        candidate()
        wait_for(lambda: len(now := leaders(database)) == 1 and now != [frozen])
        leader = leaders(database)
        add_worker(database, in_flight=28)
        job_id = add_job(database, 20)
        process.send_signal(signal.SIGCONT)
        wait_for(lambda: page_states(database, job_id) == ["dispatched"] * 20)
        threading.Event().wait(1)
        assert process.poll() is None, "it stands by"
        assert leaders(database) == leader
        assert {page.fence for page in pages(database, job_id)} == {1}
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_leader_that_waits_for_a_lock_gives_up_the_round_and_not_the_lead(
    database: Database, candidate: Candidates
) -> None:
    candidate()
    leader = wait_for(lambda: leaders(database))
    add_worker(database)
    blocked = """
        SELECT 1 FROM pg_stat_activity WHERE application_name = 'ocrfleet-leader' AND wait_event_type = 'Lock'
        AND datname = current_database()"""
    with database.transaction() as session:
        session.execute(text("LOCK TABLE pages IN ACCESS EXCLUSIVE MODE"))
        wait_for(lambda: sql(database, blocked))
        # Its lock_timeout ends the wait; then it waits again.
        wait_for(lambda: not sql(database, blocked))
    job_id = add_job(database, 5)
    wait_for(lambda: page_states(database, job_id) == ["dispatched"] * 5)
    assert leaders(database) == leader


def test_a_notification_and_the_end_of_a_backoff_wake_it(database: Database, candidate: Candidates) -> None:
    # It polls once an hour: whatever it does at once, it was woken for.
    one = candidate(poll_interval=HOUR, leader_timeout=2 * HOUR)
    wait_for(lambda: leaders(database))
    add_worker(database)
    job_id = add_job(database, 3)
    wait_for(lambda: page_states(database, job_id) == ["dispatched"] * 3)
    later = add_job(database, 1)
    wait_for(lambda: page_states(database, later) == ["dispatched"])
    backoff = """
        UPDATE pages SET state = 'ready', batch_id = NULL, not_before = now() + interval '1 second'
        WHERE job_id = :job"""
    sql(database, backoff, job=later)
    sql(database, "NOTIFY ocrfleet_work")
    wait_for(lambda: page_states(database, later) == ["dispatched"])
    assert pages(database, later)[0].fence == 2
    one.stop.set()
    sql(database, "NOTIFY ocrfleet_work")


def test_while_the_broker_is_away_the_leader_sweeps_and_loses_no_page(
    database: Database, candidate: Candidates
) -> None:
    candidate(broker_url="redis://127.0.0.1:1/0", leader_timeout=6.0)
    leader = wait_for(lambda: leaders(database))
    add_worker(database)
    past = add_job(database, 2)
    job_id = add_job(database, 5)
    wait_for(lambda: pages(database, job_id)[0].fence >= 2, PATIENCE)
    sql(database, "UPDATE jobs SET deadline = now() WHERE id = :job", job=past)
    wait_for(lambda: page_states(database, past) == ["canceled"] * 2)
    assert {(page.losses, page.failures) for page in pages(database, job_id)} == {(0, 0)}
    assert leaders(database) == leader
