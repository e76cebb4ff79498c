"""The producer's process: it starts with good settings only, ends when asked, and cleans up old inputs."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import psutil
import pytest
from fleet_builders import PATIENCE, add_worker, job, sql, submit_manifest, wait_for

from ocrfleet.blobs import Blobs, NullBlobs
from ocrfleet.db import Database
from ocrfleet.s3 import BlobInfo
from ocrfleet.settings import Settings, child_environment
from producer.cleaning import clean, clean_interactive
from producer.crew import Crew, loop


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


class Away(NullBlobs):
    """A store whose listings fail in a way that nobody expects."""

    def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
        raise RuntimeError(bucket, prefix, start_after)


def test_a_step_of_cleaning_that_fails_keeps_no_other_from_being_done(store: Blobs) -> None:
    bucket = f"clean-{uuid4().hex[:12]}"
    store.ensure_bucket(bucket)
    store.put(bucket, "interactive/2026010100/x", b"x", "text/plain")
    nowhere = Database("postgresql://nobody@127.0.0.1:1/none", application="test")
    config = Settings(bucket=bucket, store_url="null://")
    clean(config, nowhere, Away(0))
    clean(config, nowhere, store)
    assert list(store.scan(bucket, "")) == []
    nowhere.close()


def test_uploads_expire_though_other_cleaning_fails(database: Database) -> None:
    query = """
        INSERT INTO uploads (id, tenant_id, bucket, key, filename, bytes, created_at)
        SELECT gen_random_uuid(), id, 'b', 'k', 'f', 1, now() - interval '30 days' FROM tenants"""
    sql(database, query)
    clean(Settings(store_url="null://"), database, Away(0))
    assert [row.state for row in sql(database, "SELECT state FROM uploads")] == ["expired"]


@pytest.mark.parametrize("fails", [True, False])
def test_a_thread_that_ends_before_its_time_ends_all(*, fails: bool) -> None:
    def run() -> None:
        if fails:
            raise RuntimeError

    stop = threading.Event()
    crew = Crew({"other": partial(loop, lambda: None, PATIENCE, stop), "one": run}, stop)
    try:
        assert stop.wait(PATIENCE)
        assert crew.join(PATIENCE)
        assert crew.died
    finally:
        stop.set()


def test_a_step_that_fails_is_tried_again_and_an_end_that_was_asked_for_is_no_death() -> None:
    stop, calls = threading.Event(), list[int]()

    def step() -> bool:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError
        stop.set()
        return True

    crew = Crew({"one": partial(loop, step, PATIENCE, stop)}, stop)
    assert crew.join(PATIENCE)
    assert (len(calls), crew.died) == (2, False)


def test_the_leader_loads_nothing_of_what_the_others_do() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import sys, producer.__main__, producer.leader; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "producer.dispatch" in said
    unwanted = {"alembic", "minio", "pypdfium2", "producer.expand", "producer.service", "ocrfleet.blobs"}
    assert not unwanted & set(said)
