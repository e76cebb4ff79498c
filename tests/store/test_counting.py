"""Counting: items become pages once, whoever counts them, and failures of a whole item are page number 0."""

import json
from collections import Counter
from uuid import UUID

import pytest
from builders import Racer, Record, scans

from ocrfleet.errors import EncryptedPdf, TooManyPages
from ocrfleet.store import control, counting, expansion
from ocrfleet.store.expansion import CountedItem, NewItem, PendingItem


def pending(record: Record, count: int = 1, *, listed: bool = True) -> list[PendingItem]:
    record.expand(record.job(options={"dpi": 300, "pages": "1"}), scans(count, countable=True), listed=listed)
    return record.pending()


def test_counting_writes_the_pages_asked_for(record: Record) -> None:
    (item,) = pending(record)
    record.count(CountedItem(item, 9, [2, 3, 7], "e0", "v1"))
    pages = record.pages(item.job_id)
    assert [(page.number, page.state) for page in pages] == [(2, "ready"), (3, "ready"), (7, "ready")]
    (row,) = record.run("SELECT state, page_count, version_id, leased_until FROM items")
    assert tuple(row) == ("counted", 9, "v1", None)
    job = record.state(item.job_id)
    assert (job.total, job.items_pending) == (3, 0)
    assert job.expanded_at is not None
    record.recount()


def test_counting_twice_adds_nothing(record: Record) -> None:
    (item,) = pending(record)
    record.count(CountedItem(item, 2, [1, 2]))
    before = (record.state(item.job_id), record.pages(item.job_id))
    record.count(CountedItem(item, 3, [1, 2, 3]))
    record.count(CountedItem(item, error=EncryptedPdf()))
    assert (record.state(item.job_id), record.pages(item.job_id)) == before
    record.recount()


def test_two_counters_of_one_item_at_once_add_its_pages_once(record: Record) -> None:
    (item,) = pending(record)
    with record.database.transaction() as session:
        expansion.counted(session, [CountedItem(item, 2, [1, 2])])
        second = Racer(record.database, lambda s: expansion.counted(s, [CountedItem(item, 2, [1, 2])]))
        assert second.waits()
    second.result()
    assert [page.number for page in record.pages(item.job_id)] == [1, 2]
    record.recount()


def test_what_was_pinned_at_expansion_stays_pinned(record: Record) -> None:
    bare = NewItem(1, "in", "b.pdf", countable=True)
    record.expand(record.job(), [*scans(1, countable=True), bare])
    record.count(*(CountedItem(item, 1, [1], "new", "v2") for item in record.pending()))
    rows = record.run("SELECT etag, version_id FROM items ORDER BY ordinal")
    assert [tuple(row) for row in rows] == [("e0", "v2"), ("new", "v2")]


def test_an_item_that_cannot_be_counted_is_page_zero_and_page_null_to_readers(record: Record) -> None:
    good, bad = pending(record, 2)
    record.count(
        CountedItem(good, 1, [1]), CountedItem(bad, error=TooManyPages("20 pages", limit=10, actual=20))
    )
    assert sorted((page.number, page.state) for page in record.pages(bad.job_id)) == [
        (0, "dead"),
        (1, "ready"),
    ]
    job = record.state(bad.job_id)
    assert (job.total, job.dead, job.items_pending, job.state) == (2, 1, 0, "queued")
    ((seq, line),) = record.lines(bad.job_id)
    assert (seq, json.loads(line)) == (
        1,
        {
            "seq": 1,
            "job_id": str(bad.job_id),
            "item_id": str(bad.id),
            "custom_id": None,
            "bucket": "in",
            "key": "1.pdf",
            "page": None,
            "state": "dead",
            "attempt": 1,
            "error": {
                "code": "too_many_pages",
                "retryable": False,
                "detail": "20 pages",
                "limit": 10,
                "actual": 20,
            },
        },
    )
    record.recount()


@pytest.mark.parametrize("listed", [True, False])
def test_a_job_completes_with_the_last_count_only_if_its_input_was_read_to_the_end(
    record: Record, listed: bool
) -> None:
    first, second = pending(record, 2, listed=listed)
    record.count(CountedItem(first, error=EncryptedPdf()))
    assert record.state(first.job_id).state == "queued"
    record.count(CountedItem(second, error=EncryptedPdf()))
    job = record.state(first.job_id)
    assert (job.state, job.dead) == ("completed" if listed else "queued", 2)
    if not listed:
        record.expand(first.job_id, [])
        assert record.state(first.job_id).state == "completed"
    record.recount()


def test_counts_of_a_canceled_job_are_left_alone(record: Record) -> None:
    (item,) = pending(record)
    record.cancel(item.job_id)
    record.count(CountedItem(item, 2, [1, 2]))
    job = record.state(item.job_id)
    assert (job.state, job.total, record.pages(item.job_id)) == ("canceled", 0, [])
    record.recount()


def test_a_count_that_meets_a_cancellation_adds_nothing(record: Record) -> None:
    (item,) = pending(record)
    with record.database.transaction() as session:
        control.cancel(session, record.tenant, item.job_id)
        count = Racer(record.database, lambda s: expansion.counted(s, [CountedItem(item, 2, [1, 2])]))
        assert count.waits()
    count.result()
    assert (record.state(item.job_id).state, record.pages(item.job_id)) == ("canceled", [])
    record.recount()


def test_items_are_leased_to_one_counter_at_a_time_a_few_of_each_job(record: Record) -> None:
    large, small = record.job(), record.job()
    record.expand(large, scans(20, countable=True))
    record.expand(small, scans(2, countable=True))
    with record.database.transaction() as session:
        first = counting.lease_items(session, 10, 60.0, per_job=3)
    assert sorted(item.job_id for item in first) == sorted([large] * 3 + [small] * 2)
    with record.database.transaction() as session:
        second = counting.lease_items(session, 10, 60.0, per_job=3)
        counting.postpone(session, [item.id for item in first], 0.0)
    assert [item.job_id for item in second] == [large] * 3
    assert not {item.id for item in first} & {item.id for item in second}
    assert {item.id for item in first} < {item.id for item in record.pending()}


def test_a_counter_does_not_wait_for_items_that_another_is_leasing(record: Record) -> None:
    pending(record, 3)
    with record.database.transaction() as session:
        first = counting.lease_items(session, 2, 60.0)
        other = Racer(record.database, lambda s: counting.lease_items(s, 10, 60.0))
        assert not other.waits()
        assert not {item.id for item in first} & {item.id for item in other.result()}


def test_an_items_own_options_go_over_its_jobs(record: Record) -> None:
    item = NewItem(0, "in", "a.pdf", options={"pages": "2-3"}, custom_id="c", countable=True)
    record.expand(record.job(options={"dpi": 300, "pages": "1"}), [item])
    (leased,) = record.pending()
    assert leased.options == {"dpi": 300, "pages": "2-3"}


def test_a_tenant_with_many_jobs_holds_up_no_other(record: Record) -> None:
    many = [record.job() for _ in range(6)]
    for job_id in many:
        record.expand(job_id, scans(20, countable=True))
    others = [
        record.scalar("INSERT INTO tenants (name) VALUES (:name) RETURNING id", name=name) for name in "ab"
    ]
    late = [record.job(tenant=tenant) for tenant in others]
    for job_id in late:
        record.expand(job_id, scans(20, countable=True))
    with record.database.transaction() as session:
        control.pause(session, record.tenant, many.pop(0), actor="key")
        taken = counting.lease_items(session, 32, 60.0)
    # Eight of each tenant's oldest that is not paused, then of the many's next.
    assert Counter(item.job_id for item in taken) == dict.fromkeys([many[0], many[1], *late], 8)


def test_with_more_tenants_than_items_each_has_its_turn(record: Record) -> None:
    tenants = [
        record.scalar("INSERT INTO tenants (name) VALUES (:name) RETURNING id", name=f"t{n}")
        for n in range(12)
    ]
    for tenant in tenants:
        record.expand(record.job(tenant=tenant), scans(500, countable=True))
    served = set[UUID]()
    for _ in range(200):
        with record.database.transaction() as session:
            taken = counting.lease_items(session, 4, 60.0)
        assert len({item.job_id for item in taken}) == 4, "one of each"
        served |= {item.job_id for item in taken}
        if len(served) == len(tenants):
            break
    assert len(served) == len(tenants)
