"""Usage: every outcome counts once, on its job and UTC day, whatever dies, and stays when the job goes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from builders import Racer, Record, scans, settlement
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from ocrfleet.errors import ManifestInvalid
from ocrfleet.states import Lane, PageState
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


def test_pages_read_one_by_one_become_one_row_of_their_tenant_and_day(record: Record) -> None:
    with record.database.transaction() as session:
        other = tenants.create(session, "other")

    def read(count: int, tenant: UUID | None = None) -> None:
        for _ in range(count):
            job_id, _, _ = record.running(1, lane=Lane.INTERACTIVE, tenant=tenant)
            record.settle(settlement(record.pages(job_id)[0], spent=SPENT))

    def by_job() -> list[tuple[UUID, int, int]]:
        today = record.scalar("SELECT (now() AT TIME ZONE 'UTC')::date")
        days = {"first": today - timedelta(days=1), "last": today}
        with record.database.transaction() as session:
            rows = usage.grouped(session, record.tenant, "job", **days, limit=9)
            assert (
                usage.grouped(session, record.tenant, "job", **days, limit=9, after=usage.NO_JOB) == rows[1:]
            )
        return [(row["key"], row["pages"], row["bytes"]) for row in rows]

    def fold(limit: int) -> int:
        with record.database.transaction() as session:
            usage.fold(session, limit)
        return record.scalar("SELECT count(*) FROM usage")

    bulk, _, _ = record.running(2)
    record.settle(*(settlement(page, spent=SPENT) for page in record.pages(bulk)))
    read(2)
    record.run("UPDATE usage SET day = day - 1 WHERE interactive")
    read(3)
    read(2, other)
    expected = [(usage.NO_JOB, 5, 500), (bulk, 2, 200)]
    assert by_job() == expected, "before it is folded"
    assert fold(2) == 1 + 1 + 5, "some at a time, the oldest first"
    assert fold(100) == fold(100) == 1 + 3, "the job, yesterday, today, and today of the other"
    assert by_job() == expected
    read(1)
    assert fold(100) == 1 + 3, "what comes later is added"
    (row,) = record.run(
        "SELECT * FROM usage WHERE job_id = :id AND day = (now() AT TIME ZONE 'UTC')::date", id=record.tenant
    )
    assert (row.pages, row.bytes, row.prompt_tokens, row.output_tokens, row.seconds) == (4, 400, 40, 16, 2.0)


def test_a_page_that_is_being_settled_is_folded_later(record: Record) -> None:
    job_id, _, _ = record.running(1, lane=Lane.INTERACTIVE)
    record.settle(settlement(record.pages(job_id)[0], spent=SPENT))
    with record.database.transaction() as settling:
        settling.execute(text("UPDATE usage SET pages = pages + 1"))
        with record.database.transaction() as session:
            session.execute(text("SET LOCAL lock_timeout = '5s'"))
            usage.fold(session)
    assert [row.pages for row in used(record, job_id)] == [2]
