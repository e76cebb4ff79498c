"""Processes killed in the middle of a job, each time another: every page ends once, and none pays for it.

The oracle is a client that follows the results while they come, from the cursor it has reached.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import orjson
import psutil
import pytest
import redis
from fleet_builders import check_record, is_gone, job, sql, submit_manifest, tenant_id, wait_for
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError

from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.store import jobs, outcomes

PAGES = 5000
PATIENCE = 90.0
SETTINGS = {
    "OCRFLEET_STORE_URL": f"null://?objects={PAGES}",
    "OCRFLEET_NULL_READS_PIXELS": "false",
    # About 1,300 pages/s: a job that can be hit in its middle.
    "OCRFLEET_NULL_LATENCY": "0.05",
    "OCRFLEET_NULL_IN_FLIGHT": "64",
    # Shorter than in production, so that the tests are.
    "OCRFLEET_HEARTBEAT_INTERVAL": "0.5",
    "OCRFLEET_HEARTBEAT_TIMEOUT": "5",
    "OCRFLEET_LEADER_TIMEOUT": "4",
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet(folder, engine="null", services=("producer", "worker"), extra=SETTINGS) as fleet:
        yield fleet


class Client:
    """Follows a job: its counts, and its results from the cursor on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.job_id = submit_manifest(database)
        self.lines: list[dict[str, Any]] = []
        self._seq = 0

    def poll(self) -> bool:
        """Read what is new; True when the job has ended and all is read."""
        try:
            with self._database.transaction() as session:
                row = jobs.get(session, tenant_id(session), self.job_id)
                new = list(outcomes.after(session, self.job_id, self._seq, 10_000))
        except OperationalError:
            return False  # the database is the one that was killed
        assert row is not None
        states = ("outstanding", "succeeded", "dead", "canceled")
        assert sum(row[state] for state in states) == row["total"]
        assert min(row[state] for state in states) >= 0
        for seq, line in new:
            assert seq > self._seq
            self._seq = seq
            self.lines.append(orjson.loads(line))
        return row["finished_at"] is not None and not new

    def until(self, count: int) -> None:
        """Wait until so many results have come, in the middle of the job."""
        wait_for(lambda: self.poll() or len(self.lines) >= count, PATIENCE)
        assert len(self.lines) < PAGES, "the job must not be over yet"

    def finish(self) -> None:
        """Wait for the end; every page has come once."""
        wait_for(self.poll, PATIENCE)
        done = job(self._database, self.job_id)
        counts = (done.total, done.succeeded, done.dead, done.canceled)
        assert counts == (PAGES, PAGES, 0, 0)
        assert (done.state, done.outcome) == ("completed", "succeeded")
        assert {line["state"] for line in self.lines} == {"succeeded"}
        assert sorted(line["key"] for line in self.lines) == [f"{n:012}.png" for n in range(PAGES)]
        check_record(self._database, self.job_id)

    def charged(self) -> list[tuple[int, int]]:
        """(losses, failures) of the pages that have any."""
        query = "SELECT losses, failures FROM pages WHERE job_id = :job AND (losses > 0 OR failures > 0)"
        return [tuple(row) for row in sql(self._database, query, job=self.job_id)]  # type: ignore[misc]


def kill(pid: int) -> None:
    """SIGKILL, and wait until the process is gone."""
    process = psutil.Process(pid)
    process.kill()
    with suppress(psutil.NoSuchProcess):
        process.wait(PATIENCE)


def came_back(fleet: Fleet, name: str, before: int) -> bool:
    return fleet.pids.get(name, before) != before


def dispatcher(fleet: Fleet) -> psutil.Process:
    children = psutil.Process(fleet.pids["producer"]).children()
    (found,) = [child for child in children if child.cmdline()[-2:] == ["producer", "dispatch"]]
    return found


def kill_worker(fleet: Fleet) -> None:
    kill(fleet.pids["worker"])


def kill_producer(fleet: Fleet) -> None:
    orphan = dispatcher(fleet)
    kill(fleet.pids["producer"])
    wait_for(lambda: is_gone(orphan))


def kill_dispatcher(fleet: Fleet) -> None:
    before = dispatcher(fleet)
    kill(before.pid)
    after = wait_for(lambda: psutil.Process(fleet.pids["producer"]).children())
    assert before not in after, "the producer itself starts another"


def kill_valkey(fleet: Fleet) -> None:
    kill(fleet.pids["valkey"])


def kill_and_flush_valkey(fleet: Fleet) -> None:
    kill(fleet.pids["valkey"])

    def flushed() -> bool:
        with suppress(RedisError), redis.Redis.from_url(fleet.urls["valkey"]) as client:
            return bool(client.flushall())
        return False

    wait_for(flushed, PATIENCE)


def flush_valkey(fleet: Fleet) -> None:
    with redis.Redis.from_url(fleet.urls["valkey"]) as client:
        for _ in range(5):
            client.flushall()


def kill_postgres(fleet: Fleet) -> None:
    kill(fleet.pids["postgres"])


Blow = Callable[[Fleet], None]


@pytest.mark.parametrize(
    "blow",
    [
        kill_worker,
        kill_producer,
        kill_dispatcher,
        kill_valkey,
        kill_and_flush_valkey,
        flush_valkey,
        kill_postgres,
    ],
    ids=lambda blow: blow.__name__,
)
def test_every_page_ends_once(fleet: Fleet, record: Database, blow: Blow) -> None:
    client = Client(record)
    client.until(500)
    blow(fleet)
    client.finish()
    assert all(failures == 0 for _, failures in client.charged())
    if blow is not kill_worker:
        assert client.charged() == [], "only the death of its worker is charged to a page"


def test_what_a_killed_worker_held_goes_on_as_soon_as_the_next_one_starts(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    extra = SETTINGS | {"OCRFLEET_HEARTBEAT_TIMEOUT": "600"}
    services = ("producer", "worker")
    with Fleet(tmp_path_factory.mktemp("patient"), engine="null", services=services, extra=extra) as fleet:
        record = Database(fleet.urls["postgres"], application="test")
        client = Client(record)
        client.until(500)
        kill_worker(fleet)
        client.finish()
        assert {losses for losses, _ in client.charged()} == {1}
        record.close()


def test_a_worker_asked_to_stop_finishes_what_it_has(fleet: Fleet, record: Database) -> None:
    client = Client(record)
    client.until(500)
    before = fleet.pids["worker"]
    os.kill(before, signal.SIGTERM)
    wait_for(lambda: came_back(fleet, "worker", before), PATIENCE)
    client.finish()
    assert client.charged() == []
    (row,) = sql(record, "SELECT state, batches FROM workers WHERE pid = :pid", pid=before)
    assert (row.state, row.batches) == ("stopped", [])


def frozen(record: Database, process: psutil.Process, where: str) -> bool:
    """Suspend the worker; whether it stopped in the moment that is looked for, else it goes on."""
    process.suspend()
    threading.Event().wait(0.05)  # what it had sent is done by then
    if sql(record, where)[0][0]:
        return True
    process.resume()
    return False


HOLDS_PAGES = "SELECT count(*) FROM pages WHERE state = 'running'"
IN_TRANSACTION = """
    SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND application_name = 'ocrfleet-worker'
        AND (SELECT count(*) FROM pages WHERE state = 'running') > 0"""


@pytest.mark.parametrize("where", [HOLDS_PAGES, IN_TRANSACTION], ids=["holds_pages", "in_transaction"])
def test_a_frozen_worker_that_wakes_up_settles_nothing_twice(
    fleet: Fleet, record: Database, where: str
) -> None:
    client = Client(record)
    client.until(500)
    process = psutil.Process(fleet.pids["worker"])
    wait_for(lambda: frozen(record, process, where), PATIENCE)
    # Its leases expire: what it held is ready again, and waits for a worker.
    wait_for(lambda: client.poll() or client.charged(), PATIENCE)
    process.resume()
    client.finish()
    assert {losses for losses, _ in client.charged()} == {1}
