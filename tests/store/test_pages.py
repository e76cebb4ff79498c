"""Claiming: only what is still dispatched under the message's fence, and only while its job wants it."""

from uuid import uuid4

import pytest
from builders import Batch, Racer, Record, settlement
from sqlalchemy.orm import Session

from ocrfleet.states import PageState
from ocrfleet.store import control, pages


def test_claim_leases_the_pages_of_the_message(record: Record) -> None:
    job_id, worker = record.ready(2, prompt="read", options={"a": 1}), record.worker()
    batch = record.dispatch(job_id)
    claimed = record.claim(worker, batch)
    assert sorted((p.id, p.fence) for p in claimed) == batch.pages
    first = min(claimed, key=lambda p: p.id)
    assert (first.bucket, first.key, first.etag, first.number) == ("in", "0.png", "e0", 1)
    assert (first.task, first.prompt, first.options, first.attempt) == ("text", "read", {"a": 1}, 1)
    rows = record.pages(job_id)
    assert {(row.state, row.incarnation, row.batch_id, row.attempt) for row in rows} == {
        ("running", worker, batch.id, 1)
    }


def test_claim_skips_pages_whose_fence_moved_on(record: Record) -> None:
    job_id, worker = record.ready(1), record.worker()
    late = record.dispatch(job_id)
    record.age(late, 3600)
    record.sweep_messages()
    again = record.dispatch(job_id)
    assert record.claim(worker, late) == []
    assert record.states(job_id) == ["dispatched"]
    assert len(record.claim(worker, again)) == 1


def test_claim_of_a_repeated_message_finds_nothing(record: Record) -> None:
    job_id, first, second = record.ready(3), record.worker(), record.worker()
    batch = record.dispatch(job_id)
    assert len(record.claim(first, batch)) == 3
    assert record.claim(second, batch) == []
    assert {row.incarnation for row in record.pages(job_id)} == {first}


@pytest.mark.parametrize("state", ["ready", "succeeded", "dead", "canceled"])
def test_claim_skips_pages_that_are_not_dispatched(record: Record, state: str) -> None:
    job_id, worker = record.ready(2), record.worker()
    batch = record.dispatch(job_id)
    moved, left = [page for page, _ in batch.pages]
    record.run("UPDATE pages SET state = :state, batch_id = NULL WHERE id = :id", state=state, id=moved)
    assert [page.id for page in record.claim(worker, batch)] == [left]
    assert record.page(moved).state == state


@pytest.mark.parametrize("state", ["paused", "canceling"])
def test_claim_skips_pages_of_a_job_that_is_paused_or_canceling(record: Record, state: str) -> None:
    job_id, worker = record.ready(2), record.worker()
    batch = record.dispatch(job_id)
    record.run("UPDATE jobs SET state = :state WHERE id = :job", state=state, job=job_id)
    assert record.claim(worker, batch) == []
    assert record.states(job_id) == ["dispatched"] * 2


def test_claim_skips_pages_of_a_job_past_its_deadline(record: Record) -> None:
    late, other, worker = record.ready(1), record.ready(1), record.worker()
    batch = record.dispatch(late, other)
    record.run("UPDATE jobs SET deadline = now() - interval '1 ms' WHERE id = :job", job=late)
    record.run("UPDATE jobs SET deadline = now() + interval '1 hour' WHERE id = :job", job=other)
    assert [page.job_id for page in record.claim(worker, batch)] == [other]


def test_claim_skips_unknown_pages(record: Record) -> None:
    job_id, worker = record.ready(1), record.worker()
    batch = record.dispatch(job_id)
    assert len(record.claim(worker, Batch(batch.id, [*batch.pages, (10**12, 1)]))) == 1


def test_claim_counts_attempts_and_takes_pages_of_several_jobs(record: Record) -> None:
    one, two, worker = record.ready(1), record.ready(1), record.worker()
    claimed = record.claim(worker, record.dispatch(one, two))
    assert {page.job_id for page in claimed} == {one, two}
    record.settle(*(settlement(page, PageState.READY) for page in claimed))
    again = record.claim(worker, record.dispatch(one, two))
    assert [(page.attempt, page.fence) for page in again] == [(2, 2)] * 2


def test_claim_of_a_page_that_waited_for_months(record: Record) -> None:
    job_id, worker = record.ready(1), record.worker()
    record.run("UPDATE pages SET not_before = now() - interval '90 days', attempt = 32767")
    (page,) = record.claim(worker, record.dispatch(job_id))
    assert (page.queued_ms, page.attempt) == (2**31 - 1, 32767)


def test_a_claim_that_meets_a_cancellation_leaves_the_pages_to_it(record: Record) -> None:
    job_id, worker = record.ready(2), record.worker()
    batch = record.dispatch(job_id)
    with record.database.transaction() as session:
        control.cancel(session, record.tenant, job_id)
        claim = Racer(record.database, lambda s: pages.claim(s, worker, batch.pages))
        assert claim.waits()
    assert claim.result() == []
    assert (record.states(job_id), record.state(job_id).state) == (["canceled"] * 2, "canceled")
    record.recount()


def test_a_cancellation_that_meets_a_claim_leaves_the_pages_to_their_worker(record: Record) -> None:
    job_id, worker = record.ready(2), record.worker()
    batch = record.dispatch(job_id)
    with record.database.transaction() as session:
        assert len(pages.claim(session, worker, batch.pages)) == 2
        cancel = Racer(record.database, lambda s: control.cancel(s, record.tenant, job_id))
        assert cancel.waits()
    assert cancel.result() == "canceling"
    assert (record.states(job_id), record.state(job_id).state) == (["running"] * 2, "canceling")
    record.settle(*(settlement(row) for row in record.pages(job_id)))
    assert (record.states(job_id), record.state(job_id).state) == (["canceled"] * 2, "canceled")
    record.recount()


def test_two_claims_of_one_message_share_no_page(record: Record) -> None:
    job_id = record.ready(4)
    batch = record.dispatch(job_id)
    backwards = list(reversed(batch.pages))

    def claim(session: Session) -> int:
        return len(pages.claim(session, uuid4(), backwards))

    with record.database.transaction() as session:
        assert len(pages.claim(session, uuid4(), batch.pages[1:3])) == 2
        first, second = Racer(record.database, claim), Racer(record.database, claim)
        assert first.waits()
        assert second.waits()
    assert sorted([first.result(), second.result()]) == [0, 2]
    assert len({row.incarnation for row in record.pages(job_id)}) == 2
