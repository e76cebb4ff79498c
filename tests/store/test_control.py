"""Acts upon jobs: what each does to pages in every state, that it may be repeated, and who may do it when."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from acts import ACTOR, acts, change, delete, demanded, expire, pause, resume
from builders import Racer, Record

from ocrfleet.errors import InputNotFound, JobStateConflict, NotFound
from ocrfleet.store import control, tenants

LATER = datetime.now(UTC) + timedelta(days=1)


def test_priority_deadline_and_labels_are_changed_each_alone(record: Record) -> None:
    job_id = record.job(labels={"a": "1", "b": "2"}, deadline=LATER)
    change(record, job_id, priority=7)
    job = record.state(job_id)
    assert (job.priority, job.deadline, job.labels) == (7, LATER, {"a": "1", "b": "2"})
    change(record, job_id, deadline=None)
    change(record, job_id, labels={"a": None, "b": "3", "c": "4"})
    job = record.state(job_id)
    assert (job.priority, job.deadline, job.labels) == (7, None, {"b": "3", "c": "4"})
    assert [act.detail for act in acts(record)] == [
        {"before": {"priority": 0}, "after": {"priority": 7}},
        {"before": {"deadline": LATER.isoformat()}, "after": {"deadline": None}},
        {"before": {"labels": {"a": "1", "b": "2"}}, "after": {"labels": {"b": "3", "c": "4"}}},
    ]


def test_a_higher_priority_goes_first_from_now_on(record: Record) -> None:
    first, second = record.ready(1), record.ready(1)
    assert demanded(record) == [first, second]
    change(record, second, priority=1)
    assert demanded(record) == [second, first]


def test_a_deadline_that_is_moved_in_time_cancels_nothing(record: Record) -> None:
    """The sweep looks at the job's row under its lock, and does not wait for it."""
    job_id = record.ready(1, deadline=datetime.now(UTC) - timedelta(seconds=1))
    with record.database.transaction() as session:
        control.change(session, record.tenant, job_id, {"deadline": LATER}, actor=ACTOR)
        racer = Racer(record.database, control.expire)
        assert not racer.waits()
    assert racer.result() is False
    assert (expire(record), record.state(job_id).state) == (0, "queued")


# Who, when, and again


def test_each_act_is_written_down_once_however_often_it_is_repeated(record: Record) -> None:
    job_id = record.ready(1)
    for _ in range(2):
        pause(record, job_id)
    once = record.state(job_id)
    for _ in range(2):
        resume(record, job_id)
        change(record, job_id, priority=3, labels={"a": None})
    for _ in range(2):
        with record.database.transaction() as session:
            control.cancel(session, record.tenant, job_id, actor=ACTOR)
    ended = record.state(job_id)
    delete(record, job_id)
    deleted = record.state(job_id)
    delete(record, job_id)
    assert record.state(job_id) == deleted
    assert (once.state, ended.state, deleted.purged_at is not None) == ("paused", "canceled", True)
    assert {(act.actor, act.subject, act.tenant_id) for act in acts(record)} == {
        (ACTOR, f"job:{job_id}", record.tenant)
    }
    assert [act.act for act in acts(record)] == ["pause", "resume", "change", "cancel", "delete"]


Act = Callable[[Record, UUID], Any]
ACTS: dict[str, Act] = {
    "cancel": lambda record, job: record.cancel(job),
    "pause": pause,
    "resume": resume,
    "priority": lambda record, job: change(record, job, priority=1),
    "deadline": lambda record, job: change(record, job, deadline=None),
    "labels": lambda record, job: change(record, job, labels={"a": "1"}),
    "delete": delete,
}
REFUSED = {
    "completed": {"cancel", "pause", "resume", "priority", "deadline"},
    "failed": {"cancel", "pause", "resume", "priority", "deadline"},
    "canceled": {"pause", "resume", "priority", "deadline"},
    "canceling": {"pause", "resume", "priority", "deadline", "delete"},
    "queued": {"delete"},
    "running": {"delete"},
    "paused": {"delete"},
}


def in_state(record: Record, state: str) -> UUID:
    """A job that the store has brought into that state."""
    if state == "failed":
        with record.database.transaction() as session:
            control.fail(session, job_id := record.job(), InputNotFound())
        return job_id
    if state in ("running", "canceling"):
        job_id, _, _ = record.running(1)
    else:
        job_id = record.ready(0 if state == "completed" else 1)
    if state in ("canceling", "canceled"):
        record.cancel(job_id)
    if state == "paused":
        pause(record, job_id)
    return job_id


@pytest.mark.parametrize("state", REFUSED)
@pytest.mark.parametrize("act", ACTS)
def test_what_does_not_fit_the_state_is_refused_with_it_and_changes_nothing(
    record: Record, state: str, act: str
) -> None:
    job_id = in_state(record, state)
    before = record.state(job_id)
    assert before.state == state
    if act not in REFUSED[state]:
        ACTS[act](record, job_id)
        return
    with pytest.raises(JobStateConflict) as caught:
        ACTS[act](record, job_id)
    assert (caught.value.extra, f"The job is {state}" in caught.value.detail) == ({"state": state}, True)
    assert record.state(job_id) == before


@pytest.mark.parametrize("act", ACTS)
def test_another_tenants_job_is_not_found(record: Record, act: str) -> None:
    job_id = record.ready(1)
    with record.database.transaction() as session:
        other = tenants.create(session, "other")
    mine, record.tenant = record.tenant, other
    with pytest.raises(NotFound):
        ACTS[act](record, job_id)
    record.tenant = mine
    assert record.state(job_id).state == "queued"


@pytest.mark.parametrize("act", ACTS)
def test_a_deleted_job_is_found_only_to_be_deleted_again(record: Record, act: str) -> None:
    job_id = in_state(record, "canceled")
    delete(record, job_id)
    if act == "delete":
        delete(record, job_id)
        return
    with pytest.raises(NotFound):
        ACTS[act](record, job_id)
