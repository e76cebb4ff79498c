"""Notifications: hints that go out with the commit, to those who wait for work and to those who wait for a result."""

import asyncio
from collections.abc import Callable, Iterator

import psycopg
import pytest
from builders import PATIENCE, Record, settlement

from ocrfleet.states import Lane, PageState
from ocrfleet.store.notify import JOB_DONE, WORK, notify, payloads

Heard = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def heard(database_url: str) -> Iterator[Heard]:
    """What was sent since the last call, as (channel, payload)."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for channel in (WORK, JOB_DONE):
            connection.execute(f"LISTEN {channel}")

        def take() -> list[tuple[str, str]]:
            connection.execute("NOTIFY ocrfleet_work, 'end'")
            found: list[tuple[str, str]] = []
            for notification in connection.notifies(timeout=PATIENCE):
                if notification.payload == "end":
                    return found
                found.append((notification.channel, notification.payload))
            raise AssertionError(found)

        yield take


def test_new_jobs_and_settled_pages_are_work_for_the_producer(record: Record, heard: Heard) -> None:
    job_id = record.job()
    assert heard() == [(WORK, "")]
    job_id, _, _ = record.running(1)
    heard()
    record.settle(*(settlement(page, PageState.READY) for page in record.pages(job_id)))
    assert heard() == [(WORK, "")]


def test_the_end_of_a_job_is_told_with_its_id(record: Record, heard: Heard) -> None:
    bulk, _, _ = record.running(1)
    quick, _, _ = record.running(1, lane=Lane.INTERACTIVE)
    canceled = record.ready(1, lane=Lane.INTERACTIVE)
    heard()
    record.settle(*(settlement(page) for page in (*record.pages(bulk), *record.pages(quick))))
    told = [payload for channel, payload in heard() if channel == JOB_DONE]
    assert sorted(told) == sorted([str(bulk), str(quick)])
    record.cancel(canceled)
    assert (JOB_DONE, str(canceled)) in heard()


def test_what_is_rolled_back_is_not_told(record: Record, heard: Heard) -> None:
    with record.database.transaction() as session:
        notify(session, WORK)
        session.rollback()
    assert heard() == []


def test_a_listener_hears_on_after_its_connection_broke(record: Record, database_url: str) -> None:
    async def listen() -> None:
        stream = payloads(database_url, JOB_DONE, "listener")
        for awaited in ("one", "two"):
            heard = ""
            while heard != awaited:
                hearing = asyncio.ensure_future(anext(stream))
                while not hearing.done():
                    # Until it listens, what is sent is missed.
                    record.run("SELECT pg_notify(:channel, :payload)", channel=JOB_DONE, payload=awaited)
                    await asyncio.wait([hearing], timeout=0.05)
                heard = await hearing
            killed = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'listener'"
            )
            assert len(record.run(killed)) == 1
        await stream.aclose()

    asyncio.run(asyncio.wait_for(listen(), PATIENCE))
