"""The dispatcher: the window, what shares a message, and what happens when the broker takes none."""

import socket
from collections.abc import Iterator
from uuid import UUID

import pytest
from fake_broker import FakeBroker
from fleet_builders import add_job, add_worker, again_now, job, page_states, pages, send, sql, wait_for
from sqlalchemy import text

from ocrfleet.db import Database
from ocrfleet.messages import QUEUES, TASK, PageBatch
from ocrfleet.settings import Settings
from ocrfleet.states import Lane, WorkerState
from ocrfleet.store import pages as store_pages
from ocrfleet.store import tenants
from producer.broker import Broker, BrokerUnavailable
from producer.dispatch import Dispatcher
from producer.plan import SUSPECTS
from worker.app import create_app


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def dispatcher(database: Database, broker: FakeBroker) -> Dispatcher:
    return dispatcher_of(database, broker)


def dispatcher_of(database: Database, broker: FakeBroker, **settings: float) -> Dispatcher:
    return Dispatcher(Settings(**settings), broker, database.transaction)  # type: ignore[arg-type]


def sizes(batches: list[PageBatch]) -> list[int]:
    return [len(batch.pages) for batch in batches]


def by_job(database: Database, batches: list[PageBatch]) -> dict[UUID, int]:
    ids = [page for batch in batches for page, _ in batch.pages]
    query = "SELECT job_id, count(*) AS pages FROM pages WHERE id = ANY(:ids) GROUP BY job_id"
    return {row.job_id: row.pages for row in sql(database, query, ids=ids)}


def test_without_a_live_worker_nothing_is_dispatched(
    database: Database, dispatcher: Dispatcher, broker: FakeBroker
) -> None:
    job_id = add_job(database, 5)
    add_worker(database, silent_for=60)
    add_worker(database, state=WorkerState.DRAINING)
    assert dispatcher.round() == 0
    assert broker.published == []
    assert job(database, job_id).state == "queued"


def test_the_window_bounds_what_is_out_whatever_the_size_of_the_job(
    database: Database, dispatcher: Dispatcher, broker: FakeBroker
) -> None:
    # Window 2 x 4 - 2 = 6 messages; 2 x 24 pages wanted, so 8 a message.
    for _ in range(2):
        add_worker(database, slots=4, in_flight=12)
    job_id = add_job(database, 500)
    assert dispatcher.round() == 48
    assert sizes(broker.published) == [8] * 6
    assert dispatcher.round() == 0, "the window is full"
    assert page_states(database, job_id).count("dispatched") == 48
    assert job(database, job_id).state == "running"
    # One message's pages end: one more may be sent.
    with database.transaction() as session:
        store_pages.claim(session, UUID(int=1), broker.published[0].pages)
    assert dispatcher.round() == 0, "running ones fill the window too"
    ended = [page for page, _ in broker.drain()[0].pages]
    leave = """
        UPDATE pages SET state = 'succeeded', incarnation = NULL, batch_id = NULL WHERE id = ANY(:ids)"""
    sql(database, leave, ids=ended)
    assert dispatcher.round() == 8
    assert sizes(broker.published) == [8]


def test_messages_carry_the_pages_and_fences_of_the_record(
    database: Database, dispatcher: Dispatcher, broker: FakeBroker
) -> None:
    add_worker(database, in_flight=20)
    job_id = add_job(database, 40)
    dispatcher.round()
    rows = {page.id: page for page in pages(database, job_id)}
    sent = [(batch.batch_id, *page) for batch in broker.published for page in batch.pages]
    assert len(sent) == 40
    assert {(rows[page].batch_id, page, rows[page].fence) for _, page, _ in sent} == set(sent)
    assert all(batch.pages == sorted(batch.pages) for batch in broker.published)
    assert {batch.lane for batch in broker.published} == {Lane.BULK}


def test_a_broker_that_takes_no_more_gives_the_rest_back_at_once(
    database: Database, dispatcher: Dispatcher, broker: FakeBroker
) -> None:
    add_worker(database, slots=8, in_flight=28)
    job_id = add_job(database, 56)
    broker.fails_after = 2
    with pytest.raises(BrokerUnavailable):
        dispatcher.round()
    assert sizes(broker.published) == [8, 8]
    states = page_states(database, job_id)
    assert (states.count("dispatched"), states.count("ready")) == (16, 40)
    found = pages(database, job_id)
    assert {(page.failures, page.losses) for page in found} == {(0, 0)}
    # It is back: the same pages go out under new fences, so that a message that did get through finds none.
    broker.fails_after = None
    first = dict(page for batch in broker.drain() for page in batch.pages)
    assert dispatcher.round() == 40
    again = dict(page for batch in broker.published for page in batch.pages)
    assert not first.keys() & again.keys()
    assert set(again.values()) == {2}


@pytest.mark.parametrize(("workers", "at_once"), [(1, 1), (8, 2)])
def test_suspected_pages_go_apart_and_few_messages_at_a_time(
    database: Database, dispatcher: Dispatcher, broker: FakeBroker, workers: int, at_once: int
) -> None:
    for _ in range(workers):
        add_worker(database, slots=8, in_flight=28)
    job_id = add_job(database, 26)
    suspects = [page.id for page in pages(database, job_id)][3:12]
    sql(database, "UPDATE pages SET losses = 2 WHERE id = ANY(:ids)", ids=suspects)
    assert dispatcher.round() == 17 + SUSPECTS * at_once
    alone = [batch for batch in broker.published if batch.exclusive]
    assert [page for batch in alone for page, _ in batch.pages] == suspects[: SUSPECTS * at_once]
    assert sizes(alone) == [SUSPECTS] * at_once, "each empties a whole worker"
    shared = {page for batch in broker.published if not batch.exclusive for page, _ in batch.pages}
    assert len(shared) == 17
    assert not shared & set(suspects)
    assert dispatcher.round() == 0, "until one of them has ended"


def test_interactive_pages_go_first_each_in_a_message_and_within_their_own_window(
    database: Database, broker: FakeBroker
) -> None:
    dispatcher = dispatcher_of(database, broker, interactive_window=3)
    add_worker(database, slots=8, in_flight=28)
    add_job(database, 56)
    interactive = [add_job(database, 1, lane=Lane.INTERACTIVE) for _ in range(5)]
    assert dispatcher.round() == 3 + 56
    assert [batch.lane for batch in broker.published] == [Lane.INTERACTIVE] * 3 + [Lane.BULK] * 7
    assert sizes(broker.drain()) == [1] * 3 + [8] * 7
    assert dispatcher.round() == 0, "both windows are full"
    assert sum(page_states(database, one) == ["ready"] for one in interactive) == 2


def test_pages_that_wait_out_a_backoff_and_jobs_that_stopped_are_left_alone(
    database: Database, dispatcher: Dispatcher, broker: FakeBroker
) -> None:
    add_worker(database)
    waiting, paused, late = (add_job(database, 2) for _ in range(3))
    sql(database, "UPDATE pages SET not_before = now() + interval '1 hour' WHERE job_id = :job", job=waiting)
    sql(database, "UPDATE jobs SET state = 'paused' WHERE id = :job", job=paused)
    sql(database, "UPDATE jobs SET deadline = now() - interval '1 second' WHERE id = :job", job=late)
    assert dispatcher.round() == 0
    again_now(database, waiting)
    assert dispatcher.round() == 2
    assert by_job(database, broker.published) == {waiting: 2}


def test_within_a_tenant_the_higher_priority_goes_first(
    database: Database, dispatcher: Dispatcher, broker: FakeBroker
) -> None:
    add_worker(database, slots=3, in_flight=10)
    first, urgent, last = (add_job(database, 15, priority=priority) for priority in (1, 5, 0))
    assert dispatcher.round() == 20
    assert by_job(database, broker.published) == {urgent: 15, first: 5}
    assert job(database, last).state == "queued" or page_states(database, last) == ["ready"] * 15


def test_tenants_share_the_window_by_weight(
    database: Database, dispatcher: Dispatcher, broker: FakeBroker
) -> None:
    with database.transaction() as session:
        tenants.create(session, "large", weight=3.0)
    add_worker(database, slots=3, in_flight=40)
    small, large = add_job(database, 500), add_job(database, 500, tenant="large", priority=9)
    assert dispatcher.round() == 80
    assert by_job(database, broker.published) == {small: 20, large: 60}


def test_rows_that_somebody_else_holds_are_skipped(database: Database, dispatcher: Dispatcher) -> None:
    add_worker(database)
    job_id = add_job(database, 3)
    held = pages(database, job_id)[1].id
    with database.transaction() as session:
        session.execute(text("SELECT 1 FROM pages WHERE id = :id FOR UPDATE"), {"id": held})
        assert dispatcher.round() == 2
    assert dispatcher.round() == 1


@pytest.fixture(params=["refuses", "hangs"])
def dead_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if request.param == "refuses":
            listener.close()
        broker = Broker(Settings(broker_url=f"redis://127.0.0.1:{port}/0"))
        yield broker
        broker.close()


def test_a_broker_that_is_away_is_told_so_and_not_waited_for(dead_broker: Broker) -> None:
    with pytest.raises(BrokerUnavailable):
        dead_broker.publish(PageBatch(1, Lane.BULK, [(1, 1)]))
    with pytest.raises(BrokerUnavailable):
        dead_broker.status()


def test_what_the_producer_publishes_is_what_the_worker_reads(database: Database, broker_url: str) -> None:
    """Through the real broker, with the worker's own Celery application on its other end."""
    settings = Settings(broker_url=broker_url)
    broker, app = Broker(settings), create_app(settings)
    batch = send(database, add_job(database, 5))
    try:
        run_id, _ = broker.status()
        assert run_id
        broker.publish(batch)
        assert broker.status() == (run_id, False)
        with app.connection_for_read() as connection:
            queue = connection.SimpleQueue(QUEUES[Lane.BULK])
            message = wait_for(lambda: queue.get(block=False))
            message.ack()
            queue.close()
        assert message.headers["task"] == TASK
        assert message.headers["eta"] is None, "what has to wait waits in the record"
        _, kwargs, _ = message.payload
        assert PageBatch.from_message(kwargs) == batch
        assert broker.status() == (run_id, True)
    finally:
        broker.close()
        app.close()


def test_a_message_of_another_version_is_refused() -> None:
    message = PageBatch(1, Lane.BULK, [(1, 1)]).to_message()
    with pytest.raises(ValueError, match="version 2"):
        PageBatch.from_message(message | {"v": 2})


def test_a_tenant_that_is_served_twice_in_a_round_gets_each_page_once(
    database: Database, dispatcher: Dispatcher, broker: FakeBroker
) -> None:
    """What another tenant leaves of its share falls to it: its own locks do not hide what it has already."""
    with database.transaction() as session:
        tenants.create(session, "small")
    add_worker(database, slots=3, in_flight=40)
    large, small = add_job(database, 500), add_job(database, 3, tenant="small")
    assert dispatcher.round() == 80
    sent = [page for batch in broker.published for page, _ in batch.pages]
    assert len(set(sent)) == len(sent) == 80
    assert by_job(database, broker.published) == {large: 77, small: 3}
