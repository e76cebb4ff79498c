"""The cache of results: written with the outcomes or not at all, found by key, and gone after its time."""

import json
from typing import Any

import pytest
from builders import Racer, Record, settlement
from sqlalchemy.orm import Session

from ocrfleet.states import PageState
from ocrfleet.store import cache, settle

KEY, OTHER = b"k" * 32, b"o" * 32


def find(record: Record, key: bytes = KEY) -> dict[str, Any] | None:
    with record.database.transaction() as session:
        body = cache.find(session, key)
    return None if body is None else json.loads(body)


def keys(record: Record) -> list[bytes]:
    return [bytes(row.key) for row in record.run("SELECT key FROM results_cache ORDER BY key")]


def test_a_result_is_kept_with_its_outcome_and_for_the_job_that_paid(record: Record) -> None:
    job_id, _, _ = record.running(2)
    one, other = record.pages(job_id)
    record.settle(settlement(one, body='{"text":"a \\u2028 \'b\'"}', cache_key=KEY), settlement(other))
    assert find(record) == {"text": "a \u2028 'b'"}
    assert find(record, OTHER) is None
    (row,) = record.run("SELECT * FROM results_cache")
    assert (row.tenant_id, row.job_id) == (record.tenant, job_id)
    record.recount()


@pytest.mark.parametrize("state", [PageState.DEAD, PageState.READY, PageState.CANCELED])
def test_only_results_are_kept(record: Record, state: PageState) -> None:
    job_id, _, _ = record.running(1)
    (page,) = record.pages(job_id)
    record.settle(settlement(page, state, cache_key=KEY))
    assert keys(record) == []


def test_what_the_record_refuses_is_not_kept(record: Record) -> None:
    """A late result, and one of a job that was canceled meanwhile."""
    job_id, worker, _ = record.running(1)
    (late,) = record.pages(job_id)
    record.silence(worker)
    record.sweep()
    assert record.settle(settlement(late, cache_key=KEY)) == set()
    canceled, _, _ = record.running(1)
    (page,) = record.pages(canceled)
    record.cancel(canceled)
    record.settle(settlement(page, cache_key=OTHER))
    assert keys(record) == []


def test_a_flush_that_is_rolled_back_keeps_nothing(record: Record) -> None:
    job_id, _, _ = record.running(1)
    (page,) = record.pages(job_id)

    def fail() -> None:
        with record.database.transaction() as session:
            settle.settle(session, [settlement(page, cache_key=KEY)])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert keys(record) == []


def test_the_first_result_stays(record: Record) -> None:
    job_id, _, _ = record.running(3)
    first, second, third = record.pages(job_id)
    record.settle(settlement(first, body='{"text":"first"}', cache_key=KEY))
    record.settle(
        settlement(second, body='{"text":"second"}', cache_key=KEY),
        settlement(third, body='{"text":"third"}', cache_key=KEY),
    )
    assert find(record) == {"text": "first"}
    assert record.states(job_id) == ["succeeded"] * 3
    record.recount()


def test_two_flushes_with_the_same_keys_do_not_deadlock(record: Record) -> None:
    """One that has kept the lower key holds up the other there, before that has touched the higher one."""
    jobs = [record.running(2)[0] for _ in range(2)]
    one, two = (record.pages(job_id) for job_id in jobs)

    def flush(session: Session) -> set[int]:
        given = [settlement(page, cache_key=key) for page, key in zip(one, (high, low), strict=True)]
        return settle.settle(session, given)

    low, high = sorted([KEY, OTHER])
    with record.database.transaction() as session:
        cache_row(session, record, low)
        racer = Racer(record.database, flush)
        assert racer.waits()
        # Were the racer's higher key written already, this would wait for it, and it for us.
        session.connection().exec_driver_sql("SET LOCAL lock_timeout = '2s'")
        cache_row(session, record, high)
    assert len(racer.result()) == 2
    assert record.settle(
        *(settlement(page, cache_key=key) for page, key in zip(two, (low, high), strict=True))
    )
    assert keys(record) == [low, high]


def cache_row(session: Session, record: Record, key: bytes) -> None:
    session.connection().exec_driver_sql(
        "INSERT INTO results_cache (key, tenant_id, job_id, body) VALUES (%s, %s, %s, '{}')",
        (key, record.tenant, record.tenant),
    )


def test_results_are_forgotten_after_their_time_some_at_once_the_oldest_first(record: Record) -> None:
    job_id, _, _ = record.running(5)
    known = [bytes([n]) * 32 for n in range(5)]
    record.settle(
        *(settlement(page, cache_key=key) for page, key in zip(record.pages(job_id), known, strict=True))
    )
    for days, key in zip((1, 40, 31, 29, 50), known, strict=True):
        query = "UPDATE results_cache SET created_at = now() - make_interval(days => :days) WHERE key = :key"
        record.run(query, days=days, key=key)

    def expire(limit: int) -> int:
        with record.database.transaction() as session:
            return cache.expire(session, 30 * 86400.0, limit=limit)

    assert expire(2) == 2
    assert keys(record) == [known[0], known[2], known[3]]
    assert expire(2) == 1
    assert expire(2) == 0
    assert keys(record) == [known[0], known[3]]
