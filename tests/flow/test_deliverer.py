"""Webhooks are sent by a real producer to real receivers: again until they arrive, and none holds up another."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from fleet_builders import PATIENCE, add_job, sql, tenant_id, wait_for
from receiver import CLOSE, HANG, Names, Receiver

from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile
from ocrfleet.outbound import Outbound
from ocrfleet.settings import Settings, child_environment
from ocrfleet.states import DeliveryState
from ocrfleet.store import deliveries, notify, webhooks
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.webhooks import NewWebhook
from ocrfleet.webhooks import verify
from producer.deliver import PER_WEBHOOK, Deliverer

HERE = {"webhook_http": True, "webhook_networks": "127.0.0.0/8"}
DEAD = [NewItem(0, "ocr", "0.png", error=CorruptFile("torn"))]

Start = Callable[..., None]


@pytest.fixture
def start(database: Database) -> Iterator[Start]:
    """Runs deliverers with these settings until the test ends."""
    with ExitStack() as running:

        @contextmanager
        def deliverer(names: Names | None, settings: dict[str, Any]) -> Iterator[None]:
            made = Settings.model_validate({**HERE, "poll_interval": 0.02, **settings})
            stop = threading.Event()
            part = Deliverer(made, database, Outbound(made, names))
            thread = threading.Thread(target=part.run, args=(stop,))
            thread.start()
            yield
            stop.set()
            with database.transaction() as session:
                notify.notify(session, notify.DELIVER)  # it may poll rarely
            thread.join(PATIENCE)
            assert not thread.is_alive()

        yield lambda names=None, **settings: running.enter_context(deliverer(names, settings))


def add(database: Database, url: str, *events: str) -> tuple[UUID, str]:
    """A webhook's id and secret."""
    with database.transaction() as session:
        made = webhooks.create(session, tenant_id(session), NewWebhook(url, events=events), actor="a key")
        return made["id"], made["secret"]


def end(database: Database) -> str:
    """End a job; its message's id."""
    return f"{add_job(database, DEAD)}-1-completed"


def delivery(database: Database, webhook_id: UUID) -> Any:  # noqa: ANN401
    (row,) = sql(database, "SELECT * FROM webhook_deliveries WHERE webhook_id = :id", id=webhook_id)
    return row


def stands(database: Database, webhook_id: UUID, state: str) -> Any:  # noqa: ANN401
    """The webhook's only delivery, once it stands so."""
    return wait_for(lambda: row if (row := delivery(database, webhook_id)).state == state else None)


def test_what_is_dropped_is_sent_again_until_it_arrives(database: Database, start: Start) -> None:
    with Receiver(500, HANG, CLOSE, 302, 204) as receiver:
        webhook, secret = add(database, receiver.url())
        message = end(database)
        start(webhook_timeout=1.0, webhook_retries="0.05,0.05,0.05,0.05")
        row = stands(database, webhook, "delivered")
        assert (row.attempts, row.status, row.error) == (5, 204, None)
        assert receiver.message_ids == [message] * 5, "it is the same one each time"
        assert len({request.body for request in receiver.received}) == 1
        for request in receiver.received:
            event = verify(request.body, request.headers, secret)
            assert (event["type"], event["data"]["state"]) == ("job.completed", "completed")
            assert request.headers["content-type"] == "application/json"


def test_what_has_failed_for_good_disables_the_webhook_and_can_be_replayed(
    database: Database, start: Start
) -> None:
    with Receiver(500) as receiver:
        webhook, _ = add(database, receiver.url())
        message = end(database)
        start(webhook_retries="0.05,0.05")
        row = stands(database, webhook, "failed")
        assert (row.attempts, row.status, row.error) == (3, 500, "the receiver answered 500")
        (fault,) = sql(database, "SELECT enabled, fault FROM webhooks")
        assert not fault.enabled
        assert fault.fault.startswith("a message failed 3 times")
        receiver.becomes(204)
        with database.transaction() as session:
            tenant = tenant_id(session)
            webhooks.change(session, tenant, webhook, {"enabled": True}, actor="a key")
            count = deliveries.replay_all(
                session,
                tenant,
                webhook,
                since=row.created_at,
                until=None,
                state=DeliveryState.FAILED,
                actor="a key",
            )
        assert count == 1
        stands(database, webhook, "delivered")
        assert receiver.message_ids == [message] * 4


def test_the_schedule_is_kept_and_the_receivers_wish_too(database: Database, start: Start) -> None:
    with Receiver(500) as one, Receiver(503, Retry_After="7200") as other:
        first, second = add(database, one.url())[0], add(database, other.url())[0]
        end(database)
        start()
        for webhook, least in ((first, 5), (second, 7200)):
            wait_for(lambda webhook=webhook: delivery(database, webhook).attempts == 1)
            query = "SELECT extract(epoch FROM next_at - now()) AS s FROM webhook_deliveries WHERE webhook_id = :id"
            seconds = sql(database, query, id=webhook)[0].s
            assert least - PATIENCE < seconds <= least * 1.2
    delays = Settings().webhook_retries
    assert len(delays) == 9
    assert all(a < b for a, b in pairwise(delays))
    assert 75 < sum(delays) / 3600 < 76, "over three days"


def test_a_receiver_that_is_gone_is_asked_no_more(database: Database, start: Start) -> None:
    with Receiver(410) as receiver:
        webhook, _ = add(database, receiver.url())
        end(database)
        start()
        assert stands(database, webhook, "failed").attempts == 1
        (row,) = sql(database, "SELECT enabled, fault FROM webhooks")
        assert (row.enabled, row.fault) == (False, "the receiver is gone: it answered 410")
        end(database)
        assert len(sql(database, "SELECT 1 FROM webhook_deliveries")) == 1


def test_one_dead_receiver_holds_up_no_other(database: Database, start: Start) -> None:
    with Receiver(HANG) as dead, Receiver(204) as fine:
        add(database, dead.url())
        webhook, _ = add(database, fine.url())
        messages = {end(database) for _ in range(20)}
        start(webhook_timeout=PATIENCE, webhook_in_flight=16)
        delivered = "SELECT 1 FROM webhook_deliveries WHERE webhook_id = :id AND state = 'delivered' HAVING count(*) = 20"
        wait_for(lambda: sql(database, delivered, id=webhook), PATIENCE / 2)
        assert set(fine.message_ids) == messages
        assert 0 < len(dead.received) <= PER_WEBHOOK
        # Nobody waits for what hangs to end the test.
        dead.__exit__()


def test_a_name_that_moves_inside_is_not_delivered_to(database: Database, start: Start) -> None:
    with Receiver() as receiver:
        names = Names(rebinds_example=[["127.0.0.1"]])
        webhook, _ = add(database, receiver.url("rebinds.example"))
        end(database)
        start(names, webhook_networks="", webhook_retries="0.05")
        row = stands(database, webhook, "failed")
        assert row.error == "refused: the host rebinds.example is not at a public address"
        assert (row.status, row.attempts, receiver.received) == (None, 2, [])


def test_several_producers_send_each_message_once(database: Database, start: Start) -> None:
    with Receiver(204) as receiver:
        add(database, receiver.url())
        messages = sorted(end(database) for _ in range(30))
        for _ in range(3):
            start()
        wait_for(lambda: not sql(database, "SELECT 1 FROM webhook_deliveries WHERE state <> 'delivered'"))
        assert sorted(receiver.message_ids) == messages


def test_a_notification_wakes_it(database: Database, start: Start) -> None:
    with Receiver(204) as receiver:
        add(database, receiver.url())
        start(poll_interval=3600.0)
        listening = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%deliver%' AND datname = current_database()"
        wait_for(lambda: sql(database, listening))
        message = end(database)
        wait_for(lambda: receiver.message_ids == [message])


def test_a_producer_killed_between_sending_and_its_record_sends_again_under_the_same_id(
    database: Database, database_url: str, broker_url: str
) -> None:
    def producer(failpoints: str) -> subprocess.Popen[bytes]:
        environment = child_environment(
            OCRFLEET_DATABASE_URL=database_url,
            OCRFLEET_BROKER_URL=broker_url,
            OCRFLEET_STORE_URL="null://?objects=1",
            OCRFLEET_WEBHOOK_HTTP="true",
            OCRFLEET_WEBHOOK_NETWORKS="127.0.0.0/8",
            OCRFLEET_WEBHOOK_TIMEOUT="5",
            OCRFLEET_FAILPOINTS=failpoints,
        )
        return subprocess.Popen(
            [sys.executable, "-m", "producer"], env=environment, stdout=subprocess.DEVNULL
        )

    with Receiver(204) as receiver:
        webhook, _ = add(database, receiver.url())
        message = end(database)
        with producer("deliver.sent=exit") as victim:
            assert victim.wait(PATIENCE) == -signal.SIGKILL
        assert (delivery(database, webhook).state, receiver.message_ids) == ("waiting", [message])
        sql(database, "UPDATE webhook_deliveries SET leased_until = now()")
        with producer("") as heir:
            stands(database, webhook, "delivered")
            heir.terminate()
            assert heir.wait(PATIENCE) == 0
        assert receiver.message_ids == [message] * 2
        assert receiver.received[0].body == receiver.received[1].body
