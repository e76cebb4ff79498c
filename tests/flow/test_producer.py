"""The producer's process: it starts with good settings only, ends when asked, and cleans up old inputs."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psutil
import pytest
from fleet_builders import PATIENCE, add_worker, job, sql, submit_manifest, wait_for

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.settings import child_environment
from producer.__main__ import clean_interactive


def start(database_url: str, broker_url: str, store_url: str) -> subprocess.Popen[str]:
    environment = child_environment(
        OCRFLEET_DATABASE_URL=database_url, OCRFLEET_BROKER_URL=broker_url, OCRFLEET_STORE_URL=store_url
    )
    return subprocess.Popen(
        [sys.executable, "-m", "producer"], env=environment, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def producer(database_url: str, broker_url: str) -> Iterator[subprocess.Popen[str]]:
    with start(database_url, broker_url, "null://?objects=25") as process:
        yield process
        process.kill()


def test_it_expands_counts_and_dispatches_and_ends_when_asked(
    database: Database, producer: subprocess.Popen[str]
) -> None:
    add_worker(database, in_flight=28)
    # Nobody beats for this worker: it stays alive for as long as the test takes.
    sql(database, "UPDATE workers SET heartbeat_at = now() + interval '1 hour'")
    job_id = submit_manifest(database)
    wait_for(lambda: sql(database, "SELECT 1 FROM pages WHERE state = 'dispatched' HAVING count(*) = 25"))
    assert job(database, job_id).expanded_at is not None
    (dispatcher,) = psutil.Process(producer.pid).children()
    producer.terminate()
    assert producer.wait(PATIENCE) == 0
    assert not dispatcher.is_running(), "it does not outlive the producer"


def test_settings_that_are_wrong_end_it_and_are_named(database_url: str, broker_url: str) -> None:
    with start(database_url, broker_url, "ftp://nowhere") as process:
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode not in (0, None)
    assert "OCRFLEET_STORE_URL" in said


def test_interactive_inputs_are_gone_after_an_hour_and_nothing_else_is(store: Blobs) -> None:
    bucket = f"clean-{uuid4().hex[:12]}"
    store.ensure_bucket(bucket)
    now = datetime(2026, 1, 1, 1, 30, tzinfo=UTC)

    def key(hours_ago: int) -> str:
        return f"interactive/{now - timedelta(hours=hours_ago):%Y%m%d%H}/{uuid4()}"

    old, recent = [key(30), key(2)], [key(1), key(0)]
    others = ["interactive.txt", "uploads/2020010100/x"]
    for one in (*old, *recent, *others):
        store.put(bucket, one, b"x", "text/plain")
    assert clean_interactive(store, bucket, now) == 2
    assert {info.key for info in store.scan(bucket, "")} == {*recent, *others}
    assert clean_interactive(store, bucket, now) == 0
