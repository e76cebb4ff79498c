"""Waiting for interactive jobs by notification alone, and by polling alone."""

import asyncio
from uuid import UUID, uuid4

from sqlalchemy import text

from api.waiting import JobWatch
from ocrfleet.db import Database
from ocrfleet.store import control, jobs, tenants
from ocrfleet.store.jobs import NewJob
from ocrfleet.store.notify import JOB_DONE, notify

LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle' AND datname = current_database()"


async def wakes(watch: JobWatch, database: Database, *, by_notification: bool) -> bool:
    """Whether a waiter is told of an ended job, and of no other."""
    job_id, other = uuid4(), uuid4()
    running = asyncio.create_task(watch.run())
    try:
        with watch.expect(job_id) as ended, watch.expect(other) as not_ended:
            if by_notification:
                await asyncio.to_thread(announce, database, str(job_id))
            else:
                await asyncio.to_thread(end, database, job_id)
            await asyncio.wait_for(ended.wait(), 15)
            return not not_ended.is_set()
    finally:
        running.cancel()


def announce(database: Database, job_id: str) -> None:
    listening = 0
    while not listening:
        with database.transaction() as session:
            listening = session.execute(text(LISTENING)).scalar_one()
    with database.transaction() as session:
        notify(session, JOB_DONE, "no job id")
        notify(session, JOB_DONE, job_id)


def end(database: Database, job_id: UUID) -> None:
    with database.transaction() as session:
        caller = tenants.authenticate(session, tenants.create_key(session))
        assert caller
        jobs.create(session, NewJob(job_id, caller.tenant_id, "text", {"type": "prefix"}))
        control.cancel(session, caller.tenant_id, job_id)


def test_a_notification_wakes_the_waiter(database: Database) -> None:
    assert asyncio.run(wakes(JobWatch(database, poll=3600), database, by_notification=True))


def test_polling_finds_what_was_not_notified(database: Database) -> None:
    """A bulk job is never announced."""
    assert asyncio.run(wakes(JobWatch(database, poll=0.05), database, by_notification=False))
