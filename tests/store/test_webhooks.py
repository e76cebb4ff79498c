"""Webhooks: their secrets, their faults, what is kept of their deliveries, and the audit."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from builders import Record
from outbox import BAD, OK, add, change, ended, lease, settle, states

from ocrfleet.errors import JobStateConflict, NotFound
from ocrfleet.states import DeliveryState
from ocrfleet.store import deliveries, webhooks


def test_both_secrets_sign_until_the_old_one_has_run_out(record: Record) -> None:
    webhook = add(record)
    ended(record)
    with record.database.transaction() as session:
        old = webhooks.get(session, record.tenant, webhook)["secret"]
        new = webhooks.rotate(session, record.tenant, webhook, actor="a key")
    left = new["previous_secret_until"] - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24, minutes=1)
    assert new["secret"] != old
    (due,) = lease(record, seconds=0)
    assert due.secrets == [new["secret"], old]
    record.run("UPDATE webhooks SET previous_secret_until = now()")
    (due,) = lease(record)
    assert due.secrets == [new["secret"]]


def test_a_webhook_that_is_disabled_is_sent_nothing_more_until_it_is_replayed(record: Record) -> None:
    webhook, other = add(record), add(record)
    ended(record)
    change(record, webhook, enabled=False)
    assert [due.webhook_id for due in lease(record)] == [other]
    assert states(record, webhook) == [("failed", "the webhook was disabled")]
    made = datetime.now(UTC) - timedelta(hours=1)

    def replay(tenant: UUID) -> int:
        with record.database.transaction() as session:
            return deliveries.replay_all(
                session, tenant, webhook, since=made, until=None, state=DeliveryState.FAILED, actor="a key"
            )

    with pytest.raises(JobStateConflict):
        replay(record.tenant)
    with pytest.raises(NotFound):
        replay(uuid4())
    change(record, webhook, enabled=True)
    assert lease(record) == []
    assert (replay(record.tenant), replay(record.tenant)) == (1, 0)
    (due,) = lease(record)
    assert (due.webhook_id, due.attempts) == (webhook, 0)


def test_faults_disable_unless_something_has_arrived_since(record: Record) -> None:
    webhook = add(record)
    ended(record)
    (first,) = lease(record)
    ended(record)
    (second,) = lease(record)
    settle(record, second, OK, DeliveryState.DELIVERED)

    def disable(since: datetime | None) -> bool:
        with record.database.transaction() as session:
            return webhooks.disable(session, webhook, "gone", unless_delivered_since=since)

    assert not disable(first.created_at)
    ended(record)
    assert disable(datetime.now(UTC) + timedelta(hours=1))
    assert not disable(None), "once"
    assert settle(record, first, BAD, DeliveryState.FAILED), "what is being sent tells itself how it went"
    assert [state for state, _ in states(record, webhook)] == ["failed", "delivered", "failed"]
    with record.database.transaction() as session:
        assert webhooks.get(session, record.tenant, webhook)["fault"] == "gone"
    change(record, webhook, enabled=True)
    with record.database.transaction() as session:
        assert webhooks.get(session, record.tenant, webhook)["fault"] is None


def test_old_deliveries_are_forgotten_but_not_those_that_wait(record: Record) -> None:
    add(record)
    for _ in range(4):
        ended(record)
    ids = [row.id for row in record.run("SELECT id FROM webhook_deliveries ORDER BY id")]
    old = "UPDATE webhook_deliveries SET created_at = now() - interval '31 days' WHERE id = ANY(:ids)"
    record.run(old, ids=ids[:3])
    record.run("UPDATE webhook_deliveries SET state = 'failed' WHERE id = :id", id=ids[0])
    record.run("UPDATE webhook_deliveries SET state = 'delivered' WHERE id = ANY(:ids)", ids=[ids[1], ids[3]])
    with record.database.transaction() as session:
        assert deliveries.expire(session, 30 * 86400) == 2
    assert [row.id for row in record.run("SELECT id FROM webhook_deliveries ORDER BY id")] == ids[2:]


def test_every_act_is_in_the_audit(record: Record) -> None:
    webhook = add(record)
    ended(record)
    change(record, webhook, events=["job.failed"])
    change(record, webhook, events=["job.failed"])
    with record.database.transaction() as session:
        webhooks.rotate(session, record.tenant, webhook, actor="a key")
        delivery = deliveries.listing(session, webhook, limit=1)[0]["id"]
        deliveries.replay(session, record.tenant, webhook, delivery, actor="a key")
        with pytest.raises(NotFound):
            deliveries.replay(session, record.tenant, webhook, delivery + 1, actor="a key")
        webhooks.delete(session, record.tenant, webhook, actor="a key")
    acts = record.run("SELECT act, subject FROM audit ORDER BY id")
    assert [row.act for row in acts] == [
        f"webhooks.{act}" for act in ("create", "change", "rotate", "replay", "delete")
    ]
    assert {row.subject for row in acts} == {f"webhook:{webhook}"}
    assert record.run("SELECT 1 FROM webhook_deliveries") == []
