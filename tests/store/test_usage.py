"""Usage: every outcome counts once, on its job and UTC day, whatever dies, and stays when the job goes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from builders import Racer, Record, scans, settlement
from sqlalchemy import Row
from sqlalchemy.orm import Session

from ocrfleet.errors import ManifestInvalid
from ocrfleet.states import PageState
from ocrfleet.store import purge, settle, tenants, usage
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.usage import Spent

SPENT = Spent(bytes=100, prompt_tokens=10, output_tokens=4, seconds=0.5)


def used(record: Record, job_id: UUID) -> list[Row[Any]]:
    query = "SELECT * FROM usage WHERE job_id = :job ORDER BY day"
    return record.run(query, job=job_id)


def test_what_pages_took_is_summed_by_job_in_the_transaction_that_settles_them(record: Record) -> None:
    job_id, _, _ = record.running(4)
    read, cached, dead, again = record.pages(job_id)
    record.settle(
        settlement(read, spent=SPENT),
        settlement(cached, spent=Spent(bytes=7, cached=True)),
        settlement(dead, PageState.DEAD, spent=Spent(bytes=3)),
        settlement(again, PageState.READY, code="internal", spent=SPENT),
    )
    (row,) = used(record, job_id)
    assert (row.tenant_id, row.day) == (
        record.tenant,
        record.scalar("SELECT (now() AT TIME ZONE 'UTC')::date"),
    )
    assert (row.pages, row.dead, row.cached) == (3, 1, 1), "a page that runs again has cost nothing yet"
    assert (row.bytes, row.prompt_tokens, row.output_tokens, row.seconds) == (110, 10, 4, 0.5)
    record.claim(record.worker(), record.dispatch(job_id))
    record.settle(settlement(record.page(again.id), spent=SPENT))
    (row,) = used(record, job_id)
    assert (row.pages, row.bytes, row.seconds) == (4, 210, 1.0)


def test_a_result_that_comes_twice_or_too_late_counts_once(record: Record) -> None:
    job_id, worker, _ = record.running(1)
    (held,) = record.pages(job_id)
    record.silence(worker)
    record.sweep()
    record.claim(record.worker(), record.dispatch(job_id))
    record.settle(settlement(held, spent=SPENT))
    assert used(record, job_id) == []
    newer = settlement(record.pages(job_id)[0], spent=SPENT)
    record.settle(newer)
    record.settle(newer)
    assert [row.pages for row in used(record, job_id)] == [1]


def test_a_flush_that_fails_leaves_no_usage(record: Record) -> None:
    job_id, _, _ = record.running(1)

    def flush(session: Session) -> None:
        settle.settle(session, [settlement(record.pages(job_id)[0], spent=SPENT)])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), record.database.transaction() as session:
        flush(session)
    assert used(record, job_id) == []


def test_inputs_that_cannot_be_read_are_counted_as_dead(record: Record) -> None:
    job_id = record.job()
    record.expand(job_id, [NewItem(0, "in", "x", error=ManifestInvalid("line 1")), *scans(1, start=1)])
    (row,) = used(record, job_id)
    assert (row.pages, row.dead, row.bytes) == (1, 1, 0)


def test_flushes_of_one_job_add_up_whoever_commits_first(record: Record) -> None:
    job_id, _, _ = record.running(2)
    first, second = record.pages(job_id)
    with record.database.transaction() as session:
        settle.settle(session, [settlement(first, spent=SPENT)])
        racer = Racer(record.database, lambda s: settle.settle(s, [settlement(second, spent=SPENT)]))
        assert racer.waits(), "the job's row is the lock of its usage"
    racer.result()
    assert [(row.pages, row.bytes) for row in used(record, job_id)] == [(2, 200)]


def test_the_usage_of_another_day_stands_apart(record: Record) -> None:
    job_id, _, _ = record.running(2)
    first, second = record.pages(job_id)
    record.settle(settlement(first, spent=SPENT))
    record.run("UPDATE usage SET day = day - 1")
    record.settle(settlement(second, spent=SPENT))
    assert [row.pages for row in used(record, job_id)] == [1, 1]


def test_a_purged_job_keeps_its_usage(record: Record) -> None:
    job_id, _, _ = record.running(1)
    record.settle(settlement(record.pages(job_id)[0], spent=SPENT))
    record.run("UPDATE jobs SET purged_at = now(), expansion_leased_until = NULL WHERE id = :job", job=job_id)
    while record.run("SELECT 1 FROM jobs WHERE id = :job", job=job_id):
        with record.database.transaction() as session:
            chunk = purge.lease(session, 60)
        assert chunk
        with record.database.transaction() as session:
            purge.step(session, chunk)
    assert [(row.pages, row.bytes) for row in used(record, job_id)] == [(1, 100)]


def test_usage_is_grouped_by_job_day_and_tenant_page_by_page_and_others_are_not_seen(record: Record) -> None:
    with record.database.transaction() as session:
        other = tenants.create(session, "other")
    mine = [record.running(2)[0] for _ in range(3)]
    theirs = record.running(1, tenant=other)[0]
    for job_id in (*mine, theirs):
        record.settle(*(settlement(page, spent=SPENT) for page in record.pages(job_id)))
    record.run("UPDATE usage SET day = day - 1 WHERE job_id = :job", job=mine[0])
    today = record.scalar("SELECT (now() AT TIME ZONE 'UTC')::date")
    days = {"first": today - timedelta(days=2), "last": today}
    with record.database.transaction() as session:
        jobs = usage.grouped(session, record.tenant, "job", **days, limit=2)
        jobs = [*jobs, *usage.grouped(session, record.tenant, "job", **days, limit=9, after=jobs[-1]["key"])]
        by_day = usage.grouped(session, record.tenant, "day", **days, limit=9)
        by_tenant = usage.grouped(session, None, "tenant", **days, limit=9)
        total = usage.total(session, record.tenant, **days)
        none = usage.total(
            session, record.tenant, first=today + timedelta(days=1), last=today + timedelta(days=1)
        )
    assert [row["key"] for row in jobs] == sorted(mine)
    assert [(row["key"], row["pages"]) for row in by_day] == [(today - timedelta(days=1), 2), (today, 4)]
    assert [(row["key"], row["tenant_id"], row["pages"]) for row in by_tenant] == [
        ("default", record.tenant, 6),
        ("other", other, 1),
    ]
    assert (total["pages"], total["bytes"], total["seconds"]) == (6, 600, 3.0)
    assert (none["pages"], none["seconds"]) == (0, 0.0)
    assert datetime.now(UTC).date() - today <= timedelta(days=1)
