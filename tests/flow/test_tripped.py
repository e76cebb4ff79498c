"""Breakers in a real fleet: a broken worker leaves its pages to the others and comes back, and nobody is charged."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from fleet_builders import check_record, job, sql, tenant_id, wait_for
from images import encoded, noise
from pydantic import SecretStr
from sqlalchemy import Row
from tcp_proxy import TcpProxy

from ocrfleet import blobs
from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.settings import Settings, child_environment
from ocrfleet.store import jobs

PAGES = 200
PATIENCE = 120.0
SETTINGS = {
    "OCRFLEET_NULL_LATENCY": "0.05",
    "OCRFLEET_NULL_IN_FLIGHT": "4",
    "OCRFLEET_DECODE_PROCESSES": "1",
    "OCRFLEET_HEARTBEAT_INTERVAL": "0.5",
    "OCRFLEET_STORE_TIMEOUT": "2",
    "OCRFLEET_RESULT_CACHE": "false",
}
Start = Callable[..., None]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet(folder, engine="null", services=("producer",), extra=SETTINGS) as fleet:
        store = blobs.connect(
            Settings(
                store_url=fleet.urls["s3"],
                store_secret_key=SecretStr(fleet.environment["OCRFLEET_STORE_SECRET_KEY"]),
            )
        )
        for n in range(PAGES):
            store.put("ocr", f"pages/{n:03}.png", encoded(noise(n)), "image/png")
        yield fleet


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[TcpProxy]:
    """To the store; it lets nothing through at first."""
    with TcpProxy(fleet.urls["s3"]) as proxy:
        proxy.cut()
        yield proxy


@pytest.fixture
def start(fleet: Fleet, record: Database) -> Iterator[Start]:
    """Starts workers, by name, and waits until they beat."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, **settings: str) -> None:
        environment = child_environment(**fleet.environment | settings, OCRFLEET_WORKER_NAME=name)
        started.append(subprocess.Popen([sys.executable, "-m", "worker"], env=environment))
        wait_for(lambda: state(record, name) == "ready", PATIENCE)

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def worker(record: Database, name: str) -> Row[Any] | None:
    rows = sql(record, "SELECT * FROM workers WHERE name LIKE :name", name=f"{name}@%")
    return rows[0] if rows else None


def state(record: Database, name: str) -> str | None:
    row = worker(record, name)
    return row.state if row else None


def submit(record: Database) -> UUID:
    job_id = uuid4()
    with record.transaction() as session:
        given = {"type": "prefix", "bucket": "ocr", "prefix": "pages/"}
        jobs.create(session, jobs.NewJob(job_id, tenant_id(session), "text", given))
    return job_id


def finish(record: Database, job_id: UUID) -> None:
    """All its pages are read in the end, and none has paid for the broken worker."""
    wait_for(lambda: job(record, job_id).finished_at, PATIENCE)
    done = job(record, job_id)
    assert (done.total, done.succeeded) == (PAGES, PAGES)
    check_record(record, job_id)
    query = "SELECT count(*) FROM pages WHERE job_id = :job AND (failures > 0 OR losses > 0)"
    assert sql(record, query, job=job_id)[0][0] == 0


def dispatched(record: Database, job_id: UUID) -> int:
    """How often the job's pages were dispatched, in all."""
    return sql(record, "SELECT sum(fence) FROM pages WHERE job_id = :job", job=job_id)[0][0]


def test_with_one_broken_worker_of_two_the_job_ends_on_the_other(
    record: Database, proxy: TcpProxy, start: Start
) -> None:
    start("broken", OCRFLEET_STORE_URL=proxy.url)
    start("healthy", OCRFLEET_NULL_LATENCY="0.2")
    job_id = submit(record)
    wait_for(lambda: state(record, "broken") == "tripped", PATIENCE)
    assert "storage_unavailable" in (row.last_error if (row := worker(record, "broken")) else "")
    finish(record, job_id)
    assert dispatched(record, job_id) <= PAGES + 100, "what goes back does not come again and again"
    assert state(record, "broken") == "tripped"
    proxy.restore()
    wait_for(lambda: state(record, "broken") == "ready", PATIENCE)
    # It takes its part again.
    finish(record, submit(record))
    wait_for(lambda: (row := worker(record, "broken")) and row.pages_per_second > 0, PATIENCE)


def test_a_worker_that_is_all_there_is_goes_on_by_itself_when_its_store_is_back(
    record: Database, proxy: TcpProxy, start: Start
) -> None:
    start("only", OCRFLEET_STORE_URL=proxy.url)
    job_id = submit(record)
    wait_for(lambda: state(record, "only") == "tripped", PATIENCE)
    proxy.restore()
    finish(record, job_id)
    wait_for(lambda: state(record, "only") == "ready", PATIENCE)
    row = worker(record, "only")
    assert row is not None
    assert "held back" not in (row.last_error or "")
