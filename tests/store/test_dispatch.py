"""Dispatching: ready pages by priority and age, once, never waiting for a lock, each time under a new fence."""

from itertools import pairwise
from uuid import UUID

import pytest
from builders import Racer, Record, settlement

from ocrfleet.states import Lane, PageState, WorkerState
from ocrfleet.store import dispatch, jobs, tenants
from ocrfleet.store.dispatch import Capacity, Load


def demand(record: Record, lane: Lane = Lane.BULK, **limits: int) -> dict[UUID, list[UUID]]:
    with record.database.transaction() as session:
        return {found.tenant_id: found.jobs for found in dispatch.demand(session, lane, **limits)}


def take(record: Record, *job_ids: UUID, limit: int = 100, suspects: bool = False) -> list[int]:
    """The pages a dispatcher would get; they stay ready."""
    with record.database.transaction() as session:
        return [page for page, _ in dispatch.take(session, job_ids, limit, suspects=suspects)]


def test_dispatch_moves_ready_pages_into_a_batch_under_the_next_fence(record: Record) -> None:
    job_id = record.ready(3)
    batch = record.dispatch(job_id, limit=2)
    rows = record.pages(job_id)
    assert [(row.state, row.fence, row.batch_id) for row in rows] == [
        ("dispatched", 1, batch.id),
        ("dispatched", 1, batch.id),
        ("ready", 0, None),
    ]
    job = record.state(job_id)
    assert (job.state, job.started_at is not None) == ("running", True)
    record.recount()


def test_every_dispatch_of_a_page_has_a_higher_fence(record: Record) -> None:
    job_id, worker = record.ready(1), record.worker()
    fences: list[int] = []
    for _ in range(3):
        (page,) = record.claim(worker, record.dispatch(job_id))
        fences.append(page.fence)
        record.settle(settlement(page, PageState.READY))
    assert all(before < after for before, after in pairwise(fences))


def test_a_tenants_jobs_are_served_by_priority_then_age(record: Record) -> None:
    old, urgent, new = record.ready(1), record.ready(1, priority=5), record.ready(1)
    assert demand(record) == {record.tenant: [urgent, old, new]}
    assert demand(record, jobs_per_tenant=1) == {record.tenant: [urgent]}
    first = [record.page(page).job_id for page in take(record, urgent, old, new)]
    assert first == [urgent, old, new]
    assert [record.page(page).job_id for page in take(record, urgent, old, new, limit=2)] == [urgent, old]


def test_demand_is_told_by_tenant_and_lane_with_its_weight(record: Record) -> None:
    with record.database.transaction() as session:
        other = tenants.create(session, "other", weight=2.5)
    mine, theirs = record.ready(1), record.ready(1, tenant=other)
    quick = record.ready(1, lane=Lane.INTERACTIVE)
    assert demand(record) == {record.tenant: [mine], other: [theirs]}
    assert demand(record, Lane.INTERACTIVE) == {record.tenant: [quick]}
    with record.database.transaction() as session:
        assert {found.weight for found in dispatch.demand(session, Lane.BULK)} == {1.0, 2.5}


@pytest.mark.parametrize("state", ["paused", "canceling"])
def test_a_job_that_is_paused_or_canceling_has_no_demand(record: Record, state: str) -> None:
    record.ready(1)
    record.run("UPDATE jobs SET state = :state", state=state)
    assert demand(record) == {}


def test_a_job_past_its_deadline_or_without_ready_pages_has_no_demand(record: Record) -> None:
    late, empty, kept = record.ready(1), record.ready(1), record.ready(1)
    record.run("UPDATE jobs SET deadline = now() WHERE id = :id", id=late)
    record.run("UPDATE jobs SET deadline = now() + interval '1 hour' WHERE id = :id", id=kept)
    record.dispatch(empty)
    assert demand(record) == {record.tenant: [kept]}


def test_pages_wait_out_their_backoff(record: Record) -> None:
    job_id = record.ready(3)
    soon, later, now = [page.id for page in record.pages(job_id)]
    record.run("UPDATE pages SET not_before = now() + interval '30 s' WHERE id = :id", id=soon)
    record.run("UPDATE pages SET not_before = now() + interval '60 s' WHERE id = :id", id=later)
    assert take(record, job_id) == [now]
    assert record.dispatch(job_id).pages == [(now, 1)]
    assert demand(record) == {}
    with record.database.transaction() as session:
        seconds = dispatch.next_ready(session)
    assert seconds is not None
    assert 0 < seconds <= 30
    record.run("UPDATE pages SET not_before = now() WHERE id = :id", id=later)
    assert take(record, job_id) == [later]


def test_with_nothing_in_backoff_there_is_no_next_time(record: Record) -> None:
    job_id = record.ready(1)
    with record.database.transaction() as session:
        assert dispatch.next_ready(session) is None
    record.run("UPDATE pages SET not_before = now() + interval '30 s'")
    record.run("UPDATE jobs SET state = 'paused' WHERE id = :id", id=job_id)
    with record.database.transaction() as session:
        assert dispatch.next_ready(session) is None


def test_pages_come_in_the_order_in_which_they_became_ready(record: Record) -> None:
    job_id = record.ready(3)
    first, second, third = [page.id for page in record.pages(job_id)]
    record.run("UPDATE pages SET not_before = not_before - interval '1 min' WHERE id = :id", id=third)
    assert take(record, job_id) == [third, first, second]


def test_suspects_are_taken_apart_from_the_others(record: Record) -> None:
    job_id = record.ready(3)
    first, second, third = [page.id for page in record.pages(job_id)]
    record.run("UPDATE pages SET losses = CASE WHEN id = :id THEN 2 ELSE 1 END", id=second)
    assert take(record, job_id, suspects=True) == [second]
    assert take(record, job_id) == [first, third]
    record.run("UPDATE pages SET losses = 2 WHERE id = :id", id=third)
    record.dispatch(job_id)
    with record.database.transaction() as session:
        assert dispatch.load(session)[Lane.BULK] == Load(1, 3, suspects=1), "they are one message"


def test_two_dispatchers_share_no_page_and_neither_waits(record: Record) -> None:
    """A frozen leader and its successor: the pages that one holds the other skips."""
    job_id = record.ready(5)
    with record.database.transaction() as session:
        first = dispatch.take(session, [job_id], 2, suspects=False)
        second = Racer(record.database, lambda s: dispatch.take(s, [job_id], 5, suspects=False))
        assert not second.waits()
        assert len(second.result()) == 3
        assert not {page for page, _ in first} & {page for page, _ in second.result()}


def test_only_ready_pages_are_marked(record: Record) -> None:
    """Whoever lost the lock on what was taken, and marks it all the same, moves nothing that is not ready."""
    job_id = record.ready(2)
    first, second = take(record, job_id)
    batch = record.dispatch(job_id, limit=1)
    with record.database.transaction() as session:
        assert dispatch.mark(session, [(batch.id + 1, [first, second])]) == {second: 1}
    assert (record.page(first).fence, record.page(first).batch_id) == (1, batch.id)


def test_batches_are_cut_as_asked_and_their_ids_are_fresh(record: Record) -> None:
    job_id = record.ready(3)
    pages = take(record, job_id)
    with record.database.transaction() as session:
        one, two = dispatch.batch_ids(session, 2)
        fences = dispatch.mark(session, [(one, pages[:2]), (two, pages[2:])])
        assert dispatch.batch_ids(session, 1) not in ([one], [two])
    assert fences == dict.fromkeys(pages, 1)
    assert [row.batch_id for row in record.pages(job_id)] == [one, one, two]


def test_pages_of_an_unpublished_batch_go_back_and_its_message_finds_nothing(record: Record) -> None:
    job_id, worker = record.ready(3), record.worker()
    running, unsent, sent = (record.dispatch(job_id, limit=1) for _ in range(3))
    record.claim(worker, running)
    with record.database.transaction() as session:
        assert dispatch.unmark(session, [running.id, unsent.id]) == 1
    assert record.states(job_id) == ["running", "ready", "dispatched"]
    assert record.claim(worker, unsent) == []
    assert len(record.claim(worker, sent)) == 1
    again = record.dispatch(job_id)
    assert again.pages == [(unsent.pages[0][0], 2)]
    assert record.claim(worker, unsent) == []


def test_the_load_is_what_is_dispatched_or_running_by_lane(record: Record) -> None:
    job_id, quick, worker = record.ready(4), record.ready(1, lane=Lane.INTERACTIVE), record.worker()
    record.claim(worker, record.dispatch(job_id, limit=2))
    record.dispatch(job_id, limit=1)
    with record.database.transaction() as session:
        assert dispatch.load(session) == {Lane.BULK: Load(2, 3), Lane.INTERACTIVE: Load()}
    record.dispatch(quick)
    with record.database.transaction() as session:
        assert dispatch.load(session)[Lane.INTERACTIVE] == Load(1, 1)


def test_the_capacity_is_that_of_live_workers_that_take_work(record: Record) -> None:
    ready, draining, silent = record.worker(slots=3), record.worker(), record.worker()
    record.beat(ready, 1)
    record.beat(draining, state=WorkerState.DRAINING)
    record.silence(silent, since="now() - interval '1 min'")
    with record.database.transaction() as session:
        assert dispatch.capacity(session, 30.0) == Capacity(1, 3, 4, 1.0)


def test_a_job_starts_once(record: Record) -> None:
    job_id, paused = record.ready(2), record.ready(1)
    record.run("UPDATE jobs SET state = 'paused' WHERE id = :id", id=paused)
    record.dispatch(job_id, limit=1)
    started = record.state(job_id).started_at
    with record.database.transaction() as session:
        jobs.start(session, [job_id, paused])
    assert record.state(job_id).started_at == started
    assert record.state(paused).state == "paused"
