"""The outbox of webhooks: what ends is told once, to whom it concerns; leases are fair and are fenced."""

import threading
from datetime import datetime
from uuid import uuid4

from builders import Record
from fleet_builders import add_job
from outbox import BAD, OK, add, change, ended, lease, sent, settle

from ocrfleet.errors import ManifestInvalid
from ocrfleet.states import DeliveryState, Lane
from ocrfleet.store import control, deliveries, jobs, redrives, tenants, webhooks
from ocrfleet.store.letters import LetterFilter
from ocrfleet.store.redrives import NewRedrive


def test_the_end_of_a_job_is_told_in_a_small_message(record: Record) -> None:
    add(record)
    job_id = ended(record, labels={"batch": "nov"})
    (due,) = lease(record)
    assert (due.message_id, due.payload["type"]) == (f"{job_id}-1-completed", "job.completed")
    data = due.payload["data"]
    assert data["counts"] == {"items": 1, "total": 1, "succeeded": 0, "dead": 1, "canceled": 0}
    assert (data["job_id"], data["state"], data["outcome"], data["labels"]) == (
        str(job_id), "completed", "failed", {"batch": "nov"},
    )  # fmt: skip
    assert data["links"] == {"job": f"/v1/jobs/{job_id}", "results": f"/v1/jobs/{job_id}/results"}
    happened = datetime.fromisoformat(due.payload["timestamp"])
    assert happened == record.scalar("SELECT finished_at FROM jobs")
    assert due.body.startswith(b'{"type":"job.completed","timestamp":"')
    assert "." not in due.message_id, "a dot parts what is signed"


def test_each_webhook_is_sent_what_it_takes_and_what_names_it(record: Record) -> None:
    every, some, none = add(record), add(record, "job.failed"), add(record, "webhook.test")
    named, disabled = add(record, "export.failed"), add(record)
    change(record, disabled, enabled=False)
    with record.database.transaction() as session:
        tenants.create(session, "other")
    others = add(record, tenant="other")
    ended(record, webhook_ids=[named, disabled, others])
    with record.database.transaction() as session:
        failing = uuid4()
        jobs.create(session, jobs.NewJob(failing, record.tenant, "text", {"type": "prefix"}))
        control.fail(session, failing, ManifestInvalid("line 3"))
        control.fail(session, failing, ManifestInvalid("line 3"))
    with record.database.transaction() as session:
        canceled = uuid4()
        jobs.create(session, jobs.NewJob(canceled, record.tenant, "text", {"type": "prefix"}))
        control.cancel(session, record.tenant, canceled)
    assert sent(record, every) == ["job.completed", "job.failed", "job.canceled"]
    assert (sent(record, some), sent(record, named)) == (["job.failed"], ["job.completed"])
    assert sent(record, none) == sent(record, disabled) == sent(record, others) == []
    (error,) = record.run(
        "SELECT payload -> 'data' -> 'error' AS e FROM webhook_deliveries WHERE webhook_id = :id", id=some
    )
    assert error.e["code"] == "manifest_invalid"


def test_nobody_is_told_of_interactive_jobs(record: Record) -> None:
    webhook = add(record)
    ended(record, lane=Lane.INTERACTIVE)
    assert sent(record, webhook) == []


def test_a_job_that_is_rolled_back_is_not_told_of(record: Record) -> None:
    webhook = add(record)
    job_id = add_job(record.database)
    with record.database.transaction() as session:
        control.cancel(session, record.tenant, job_id)
        session.rollback()
    assert sent(record, webhook) == []


def test_a_job_that_runs_again_ends_again_in_its_next_generation(record: Record) -> None:
    webhook, job_id = add(record), ended(record)
    with record.database.transaction() as session:
        redrives.create(session, NewRedrive(record.tenant, LetterFilter(all=True), override={}), "a key")
    assert sent(record, webhook) == ["job.completed"]
    with record.database.transaction() as session:
        control.cancel(session, record.tenant, job_id)
    ids = record.run(
        "SELECT message_id FROM webhook_deliveries WHERE webhook_id = :id ORDER BY id", id=webhook
    )
    assert [row.message_id for row in ids] == [f"{job_id}-1-completed", f"{job_id}-2-canceled"]


def test_an_export_is_told_of(record: Record) -> None:
    webhook, job_id, export = add(record, "export.completed"), ended(record), uuid4()
    record.run(
        """INSERT INTO exports (id, tenant_id, job_id, format, bucket, prefix, state, finished_at, items)
        VALUES (:id, :tenant, :job, 'jsonl', 'ocr', 'exports/', 'completed', now(), 7)""",
        id=export, tenant=record.tenant, job=job_id,
    )  # fmt: skip
    for _ in range(2):
        with record.database.transaction() as session:
            deliveries.exports_ended(session, [export])
    assert sent(record, webhook) == ["export.completed"]
    (due,) = lease(record)
    assert (due.message_id, due.payload["data"]["counts"]["items"]) == (f"{export}-completed", 7)


def test_a_webhook_that_is_being_deleted_does_not_fail_the_end_of_a_job(record: Record) -> None:
    webhook, job_id = add(record), add_job(record.database)
    began, ends = threading.Event(), threading.Event()

    def end() -> None:
        with record.database.transaction() as session:
            began.set()
            control.cancel(session, record.tenant, job_id)
        ends.set()

    thread = threading.Thread(target=end)
    with record.database.transaction() as session:
        webhooks.delete(session, record.tenant, webhook, actor="a key")
        thread.start()
        assert began.wait(30)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not record.scalar(waiting):
            assert not ends.is_set(), "it has not waited for the deletion"
    thread.join(30)
    assert ends.is_set()
    assert record.scalar("SELECT state FROM jobs") == "canceled"


def test_a_message_is_leased_once_and_again_when_nobody_has_settled_it(record: Record) -> None:
    add(record)
    ended(record)
    (first,) = lease(record)
    assert lease(record) == []
    record.run("UPDATE webhook_deliveries SET leased_until = now()")
    (second,) = lease(record)
    assert (second.message_id, second.body) == (first.message_id, first.body)
    assert not settle(record, first, OK, DeliveryState.DELIVERED), "its lease is another's now"
    assert settle(record, second, OK, DeliveryState.DELIVERED)
    row = record.run("SELECT * FROM webhook_deliveries")[0]
    assert (row.state, row.attempts, row.status, row.milliseconds) == ("delivered", 1, 204, 12)
    assert row.delivered_at
    assert lease(record) == []


def test_a_failure_waits_for_its_time(record: Record) -> None:
    add(record)
    ended(record)
    (due,) = lease(record)
    assert settle(record, due, BAD, DeliveryState.WAITING, retry_in=3600)
    assert lease(record) == []
    in_ = record.scalar("SELECT extract(epoch FROM next_at - now()) FROM webhook_deliveries")
    assert 3500 < in_ <= 3600
    record.run("UPDATE webhook_deliveries SET next_at = now()")
    (again,) = lease(record)
    assert again.attempts == 1


def test_a_long_queue_holds_up_no_other(record: Record) -> None:
    with record.database.transaction() as session:
        tenants.create(session, "other")
    dead, fine, others = add(record), add(record, "job.canceled"), add(record, tenant="other")
    for _ in range(5):
        ended(record)
    with record.database.transaction() as session:
        control.cancel(session, record.tenant, add_job(record.database))
    ended(record, tenant="other")
    taken = lease(record, 4, each=2)
    assert [due.webhook_id for due in taken].count(dead) <= 2
    assert {due.webhook_id for due in taken} == {dead, fine, others}
    # What is being sent counts, of the webhook and of its tenant.
    assert [due.webhook_id for due in lease(record, 4, each=2, busy={dead: 2})] in ([fine], [])
    assert lease(record, 4, each=9, busy={dead: 2}, slots=4) == []
    assert len(lease(record, 4, each=9, busy={dead: 1}, slots=4)) == 1
