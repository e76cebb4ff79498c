"""Quotas: what is over them waits, the days are UTC, and nobody else is touched."""

from uuid import UUID

import pytest
from builders import Record, settlement

from ocrfleet.store import control, expansion, quotas, tenants
from ocrfleet.store.usage import Spent


def limit(record: Record, tenant: UUID, **limits: int | None) -> None:
    with record.database.transaction() as session:
        tenants.change(session, tenant, limits)


def allowances(record: Record) -> dict[UUID, int]:
    with record.database.transaction() as session:
        return quotas.allowances(session)


def lease(record: Record) -> UUID | None:
    with record.database.transaction() as session:
        found = expansion.lease(session, 60.0)
    return found.job_id if found else None


@pytest.fixture
def other(record: Record) -> UUID:
    with record.database.transaction() as session:
        return tenants.create(session, "other")


def test_pages_that_ended_today_and_those_under_way_count(record: Record, other: UUID) -> None:
    limit(record, record.tenant, pages_per_day=10)
    job_id, _, _ = record.running(4)
    record.settle(*(settlement(page) for page in record.pages(job_id)[:3]))
    record.running(5, tenant=other)
    assert allowances(record) == {record.tenant: 6}, "three ended, one runs; the other has no quota"
    record.run("UPDATE usage SET day = day - 1")
    assert allowances(record) == {record.tenant: 9}, "a new day"
    limit(record, record.tenant, pages_per_day=0)
    assert allowances(record) == {record.tenant: 0}
    limit(record, record.tenant, pages_per_day=None)
    assert allowances(record) == {}


def test_bytes_stop_what_comes_after_them(record: Record) -> None:
    limit(record, record.tenant, bytes_per_day=100)
    job_id, _, _ = record.running(2)
    first, second = record.pages(job_id)
    record.settle(settlement(first, spent=Spent(bytes=99)))
    assert allowances(record) == {}
    record.settle(settlement(second, spent=Spent(bytes=1)))
    assert allowances(record) == {record.tenant: 0}


def test_jobs_over_the_limit_are_not_expanded_until_one_ends(record: Record, other: UUID) -> None:
    limit(record, record.tenant, jobs_open=2)
    first, second, third, fourth = (record.job() for _ in range(4))
    theirs = [record.job(tenant=other) for _ in range(2)]
    leased = [lease(record) for _ in range(4)]
    assert set(leased) == {first, second, *theirs}, "another tenant's do not wait"
    assert lease(record) is None
    assert record.state(third).state == "queued"
    with record.database.transaction() as session:
        control.cancel(session, record.tenant, second, actor="key")
    assert (lease(record), lease(record)) == (third, None)
    limit(record, record.tenant, jobs_open=None)
    assert lease(record) == fourth


def test_a_paused_job_keeps_its_place_and_a_page_read_at_once_needs_none(record: Record) -> None:
    limit(record, record.tenant, jobs_open=1)
    early = record.job(lane="interactive")
    first, _ = record.job(), record.job()
    with record.database.transaction() as session:
        control.pause(session, record.tenant, first, actor="key")
    assert {lease(record) for _ in range(3)} == {early, first, None}
    late = record.job(lane="interactive")
    assert lease(record) == late


def test_what_waits_is_told_with_its_limit(record: Record, other: UUID) -> None:
    limit(record, record.tenant, jobs_open=1, pages_per_day=2)
    first = record.ready(3)
    second = record.job()
    record.job(tenant=other)
    with record.database.transaction() as session:
        assert set(quotas.blocked(session)) == {record.tenant}
        found = quotas.blocked(session)[record.tenant]
    waits = record.state(second)
    assert found.reason(waits.created_at, second, listed=False, ready=0) == "quota: jobs_open 1"
    runs = record.state(first)
    assert found.reason(runs.created_at, first, listed=True, ready=3) is None
    batch = record.dispatch(first, limit=2)
    for page in record.claim(record.worker(), batch):
        record.settle(settlement(page))
    with record.database.transaction() as session:
        found = quotas.blocked(session)[record.tenant]
        standing = quotas.standing(session, record.tenant)
    assert found.reason(runs.created_at, first, listed=True, ready=1) == "quota: pages_per_day 2"
    assert found.day == quotas.Day("pages_per_day", 2, 2, standing["resets_at"])
    assert found.reason(runs.created_at, first, listed=True, ready=0) is None
    assert (standing["pages"], standing["open"], standing["pages_per_day"]) == (2, 2, 2)
    assert record.scalar("SELECT :at = date_trunc('day', now() AT TIME ZONE 'UTC' + interval '1 day') AT TIME ZONE 'UTC'",
                         at=standing["resets_at"])  # fmt: skip
