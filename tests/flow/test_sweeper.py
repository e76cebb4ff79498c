"""The sweeper: what dead workers held and what the broker lost comes back, and nothing else does."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from fake_broker import FakeBroker
from fleet_builders import (
    add_job,
    add_worker,
    again_now,
    attempts,
    check_record,
    job,
    page_states,
    pages,
    results,
    send,
    sql,
    wait_for,
)

from ocrfleet.db import Database
from ocrfleet.messages import PageBatch
from ocrfleet.settings import Settings
from ocrfleet.store import pages as store_pages
from producer.sweep import Sweeper


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def sweeper(database: Database, broker: FakeBroker) -> Sweeper:
    settings = Settings(heartbeat_timeout=5.0)
    # Nothing is charged for a silence that began before the database's start, which may have been just now.
    up = "SELECT 1 WHERE now() - pg_postmaster_start_time() > interval '8 seconds'"
    wait_for(lambda: sql(database, up))
    sweeper = Sweeper(settings, broker, database.transaction)  # type: ignore[arg-type]
    # Nor for one that began before its own session: it has led for an hour.
    sweeper._began = datetime.now(UTC) - timedelta(hours=1)
    return sweeper


def claim(database: Database, batch: PageBatch, worker: UUID) -> None:
    with database.transaction() as session:
        assert len(store_pages.claim(session, worker, batch.pages)) == len(batch.pages)


def age(database: Database, job_id: UUID, seconds: float) -> None:
    """Move the pages' last change into the past."""
    statement = "UPDATE pages SET since = now() - make_interval(secs => :age) WHERE job_id = :job"
    sql(database, statement, job=job_id, age=seconds)


def running(database: Database, count: int, **worker: float) -> tuple[UUID, UUID]:
    """A job whose pages run on a worker of its own, which names their batch."""
    job_id = add_job(database, count)
    batch = send(database, job_id)
    incarnation = add_worker(database, batches=[batch.batch_id], **worker)  # type: ignore[arg-type]
    claim(database, batch, incarnation)
    return job_id, incarnation


def test_pages_of_a_silent_worker_are_ready_again_with_a_loss_and_no_failure(
    database: Database, sweeper: Sweeper
) -> None:
    lost, dead = running(database, 3, silent_for=6.0)
    kept, _ = running(database, 2)
    sweeper.sweep()
    found = pages(database, lost)
    assert {(page.state, page.losses, page.failures) for page in found} == {("ready", 1, 0)}
    assert all(page.due_in <= 0 for page in found), "at once"
    assert [(one.code, one.incarnation) for one in attempts(database, lost)] == [("worker_lost", dead)] * 3
    assert page_states(database, kept) == ["running"] * 2
    sweeper.sweep()
    assert {page.losses for page in pages(database, lost)} == {1}, "once"
    check_record(database, lost)


def test_a_silence_that_began_before_the_databases_own_start_is_no_loss(
    database: Database, sweeper: Sweeper
) -> None:
    job_id, _ = running(database, 2, silent_for=1_000_000)
    sweeper.sweep()
    assert {(page.state, page.losses) for page in pages(database, job_id)} == {("ready", 0)}
    assert attempts(database, job_id) == []


def test_a_new_leader_waits_two_heartbeats_and_charges_nothing_for_what_was_before(
    database: Database, broker: FakeBroker, sweeper: Sweeper
) -> None:
    job_id, _ = running(database, 2, silent_for=6.0)
    settings = Settings(heartbeat_timeout=5.0, heartbeat_interval=2.0)
    fresh = Sweeper(settings, broker, database.transaction)  # type: ignore[arg-type]
    fresh.sweep()
    assert page_states(database, job_id) == ["running"] * 2
    fresh._began = datetime.now(UTC) - timedelta(seconds=4.5)
    fresh.sweep()
    assert {(page.state, page.losses) for page in pages(database, job_id)} == {("ready", 0)}
    del sweeper  # it has waited until the database is old enough


def test_a_page_that_its_worker_no_longer_names_comes_back_at_no_cost(
    database: Database, sweeper: Sweeper
) -> None:
    job_id = add_job(database, 2)
    batch = send(database, job_id)
    worker = add_worker(database)
    claim(database, batch, worker)
    sweeper.sweep()
    assert page_states(database, job_id) == ["running"] * 2, "it has not been missing from two heartbeats"
    age(database, job_id, 5)
    sql(database, "UPDATE workers SET previous_heartbeat_at = now() - interval '0.5 seconds'")
    sweeper.sweep()
    assert {(page.state, page.losses) for page in pages(database, job_id)} == {("ready", 0)}
    assert attempts(database, job_id) == []


def test_two_losses_alone_on_two_workers_are_the_proof_of_poison(
    database: Database, sweeper: Sweeper
) -> None:
    job_id = add_job(database, 1)
    codes = []
    for losses in range(4):
        (page,) = pages(database, job_id)
        assert (page.state, page.losses) == ("ready", losses)
        batch = send(database, job_id, exclusive=losses >= 2)
        claim(database, batch, add_worker(database, silent_for=6.0, batches=[batch.batch_id]))
        sweeper.sweep()
        again_now(database, job_id)
        codes = [(one.code, one.exclusive) for one in attempts(database, job_id)]
    assert codes == [("worker_lost", 0), ("worker_lost", 0), ("worker_lost", 1), ("poison_page", 1)]
    (line,) = results(database, job_id)
    assert (line["state"], line["error"]["code"]) == ("dead", "poison_page")
    assert job(database, job_id).state == "completed"
    check_record(database, job_id)


def test_dispatched_pages_come_back_when_the_queue_is_empty_and_twice_as_late_each_time(
    database: Database, sweeper: Sweeper, broker: FakeBroker
) -> None:
    job_id = add_job(database, 2)
    for redispatches, enough in enumerate([2.5, 4.5, 8.5]):
        send(database, job_id)
        age(database, job_id, enough - 1)
        sweeper.sweep()
        assert page_states(database, job_id) == ["dispatched"] * 2
        age(database, job_id, enough)
        broker.empty = False
        sweeper.sweep()
        assert page_states(database, job_id) == ["dispatched"] * 2, "their message may still be there"
        broker.empty = True
        sweeper.sweep()
        found = pages(database, job_id)
        assert {(page.state, page.redispatches) for page in found} == {("ready", redispatches + 1)}
        assert {(page.losses, page.failures) for page in found} == {(0, 0)}


def test_dispatched_pages_come_back_after_a_minute_whatever_the_queue_holds(
    database: Database, sweeper: Sweeper, broker: FakeBroker
) -> None:
    job_id = add_job(database, 2)
    send(database, job_id)
    broker.empty = False
    age(database, job_id, 59)
    sweeper.sweep()
    assert page_states(database, job_id) == ["dispatched"] * 2
    age(database, job_id, 61)
    sweeper.sweep()
    assert page_states(database, job_id) == ["ready"] * 2


def test_a_slow_fleet_is_given_three_times_its_measured_drain(
    database: Database, sweeper: Sweeper, broker: FakeBroker
) -> None:
    add_worker(database, rate=0.05)
    job_id = add_job(database, 2)
    send(database, job_id)
    broker.empty = False
    # Two pages at a page in 20 s: a drain of 40 s, so 120 s.
    for seconds, state in ((100, "dispatched"), (125, "ready")):
        age(database, job_id, seconds)
        # `age` takes time of its own, in which a heartbeat grows old.
        sql(database, "UPDATE workers SET heartbeat_at = now()")
        sweeper.sweep()
        assert page_states(database, job_id) == [state] * 2


def test_a_batch_that_a_live_worker_names_waits_there_and_is_not_lost(
    database: Database, sweeper: Sweeper
) -> None:
    job_id = add_job(database, 2)
    batch = send(database, job_id)
    worker = add_worker(database, batches=[batch.batch_id])
    age(database, job_id, 100)
    sweeper.sweep()
    assert page_states(database, job_id) == ["dispatched"] * 2
    sql(
        database,
        "UPDATE workers SET heartbeat_at = now() - interval '1 minute' WHERE incarnation = :w",
        w=worker,
    )
    sweeper.sweep()
    assert page_states(database, job_id) == ["ready"] * 2


def test_a_new_run_id_of_the_broker_means_that_its_messages_are_lost(
    database: Database, sweeper: Sweeper, broker: FakeBroker
) -> None:
    job_id = add_job(database, 2)
    send(database, job_id)
    sql(database, "UPDATE pages SET redispatches = 4 WHERE job_id = :job", job=job_id)
    age(database, job_id, 2.5)
    # New messages already lie in the queue again.
    broker.empty = False
    sweeper.sweep()
    assert page_states(database, job_id) == ["dispatched"] * 2
    broker.run_id = "second"
    sweeper.sweep()
    assert page_states(database, job_id) == ["ready"] * 2


def test_what_is_sent_after_the_restart_is_not_suspected(
    database: Database, sweeper: Sweeper, broker: FakeBroker
) -> None:
    sweeper.sweep()
    broker.run_id, broker.empty = "second", False
    job_id = add_job(database, 2)
    send(database, job_id)
    sweeper.sweep()
    assert page_states(database, job_id) == ["dispatched"] * 2


def test_a_broker_that_is_away_says_nothing_about_its_messages(
    database: Database, sweeper: Sweeper, broker: FakeBroker
) -> None:
    waiting = add_job(database, 2)
    send(database, waiting)
    age(database, waiting, 1000)
    lost, _ = running(database, 2, silent_for=6.0)
    broker.is_away = True
    sweeper.sweep()
    assert page_states(database, waiting) == ["dispatched"] * 2
    assert page_states(database, lost) == ["ready"] * 2, "the rest of the sweep goes on"


def test_at_the_deadline_what_waits_is_canceled_and_says_why(database: Database, sweeper: Sweeper) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    late, on_time = add_job(database, 3, deadline=past), add_job(database, 3)
    sweeper.sweep()
    done = job(database, late)
    assert (done.state, done.canceled) == ("canceled", 3)
    assert done.error["code"] == "deadline_exceeded"
    assert page_states(database, on_time) == ["ready"] * 3
    check_record(database, late)


def test_a_jobs_throughput_is_sampled(database: Database, sweeper: Sweeper) -> None:
    job_id = add_job(database, 3)
    send(database, job_id)
    started = """
        UPDATE jobs SET started_at = now() - interval '10 seconds', succeeded = 2 WHERE id = :job"""
    sql(database, started, job=job_id)
    sweeper.sweep()
    assert job(database, job_id).throughput == pytest.approx(0.2, rel=0.2)


def test_a_sweep_folds_the_usage_of_interactive_jobs(database: Database, sweeper: Sweeper) -> None:
    query = """
        INSERT INTO usage (job_id, day, tenant_id, pages, interactive)
        SELECT gen_random_uuid(), '2026-11-20', id, 1, true FROM tenants, generate_series(1, 3)"""
    sql(database, query)
    sweeper.sweep()
    assert [row.pages for row in sql(database, "SELECT pages FROM usage")] == [3]


def test_workers_silent_for_long_are_forgotten_once_they_hold_nothing(
    database: Database, sweeper: Sweeper
) -> None:
    job_id = add_job(database, 1)
    holder = uuid4()
    claim(database, send(database, job_id), holder)
    add_worker(database, silent_for=4000)
    recent = add_worker(database, silent_for=100)
    sweeper.sweep()
    assert [row.incarnation for row in sql(database, "SELECT incarnation FROM workers")] == [recent]
    assert page_states(database, job_id) == ["ready"], "its worker was never heard of"
