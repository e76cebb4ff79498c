"""A process that dies at any failpoint in the middle of a job: another takes over, and every page ends once."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from fleet_builders import PATIENCE, add_job, job, leaders, results, sql, submit_manifest, tenant_id, wait_for

from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile
from ocrfleet.failpoints import POINTS
from ocrfleet.settings import child_environment
from ocrfleet.store import control, redrives
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.letters import LetterFilter
from ocrfleet.store.redrives import NewRedrive
from tests.chaos.invariants import breaches

PAGES = 300
TIMEOUT = 2.0
WORKER = ("worker",)
DISPATCHER = ("producer", "dispatch")
PRODUCER = ("producer",)

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts services that end with the test; `failpoints` are those of one process."""
    environment = child_environment(
        OCRFLEET_DATABASE_URL=database_url,
        OCRFLEET_BROKER_URL=broker_url,
        OCRFLEET_STORE_URL=f"null://?objects={PAGES}",
        OCRFLEET_ENGINE="null",
        # One small batch at a time, and many of them.
        OCRFLEET_SLOTS="2",
        OCRFLEET_MAX_BATCH_PAGES="16",
        OCRFLEET_EXPAND_CHUNK="64",
        # Shorter than in production, so that the tests are.
        OCRFLEET_HEARTBEAT_INTERVAL="0.25",
        OCRFLEET_HEARTBEAT_TIMEOUT=str(TIMEOUT),
        OCRFLEET_LEADER_TIMEOUT="2",
    )

    @contextmanager
    def service(argv: tuple[str, ...], failpoints: str) -> Iterator[subprocess.Popen[bytes]]:
        with (tmp_path / "services.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *argv],
                env=environment | {"OCRFLEET_FAILPOINTS": failpoints},
                stdout=log,
                stderr=log,
            )
        yield process
        process.kill()
        process.wait()

    with ExitStack() as running:
        yield lambda argv, failpoints="": running.enter_context(service(argv, failpoints))


def dies(process: subprocess.Popen[bytes]) -> None:
    assert process.wait(PATIENCE) == -signal.SIGKILL


def finish(database: Database, job_id: UUID, count: int = PAGES) -> None:
    """Every page of the job succeeds, once, and the record is as it must be."""
    wait_for(lambda: job(database, job_id).finished_at, 2 * PATIENCE)
    done = job(database, job_id)
    assert (done.state, done.total, done.succeeded) == ("completed", count, count)
    lines = results(database, job_id)
    assert len({line["item_id"] for line in lines}) == len(lines) == count
    wait_for(lambda: not found(database))


def found(database: Database) -> list[str]:
    with database.transaction() as session:
        return breaches(session, at_rest=True, heartbeat_timeout=TIMEOUT)


@pytest.mark.parametrize("point", [name for name in POINTS if name.startswith(("worker", "settle"))])
def test_a_worker_that_dies_there_costs_no_page(start: Start, database: Database, point: str) -> None:
    start(DISPATCHER)
    # It charges no loss to what was silent before it led.
    wait_for(lambda: leaders(database))
    victim = start(WORKER, f"{point}=exit@3")
    job_id = add_job(database, PAGES)
    dies(victim)
    settled = job(database, job_id).succeeded
    assert 0 < settled < PAGES, "it died in the middle"
    held = sql(database, "SELECT count(*) FROM pages WHERE state = 'running'")[0][0]
    assert held or point == "settle.after_commit"
    start(WORKER)
    finish(database, job_id)
    assert sql(database, "SELECT sum(losses), sum(failures) FROM pages")[0] == (held, 0)


@pytest.mark.parametrize("point", [name for name in POINTS if name.startswith("dispatch")])
def test_a_dispatcher_that_dies_there_costs_no_page(start: Start, database: Database, point: str) -> None:
    start(WORKER)
    job_id = add_job(database, PAGES)
    dies(start(DISPATCHER, f"{point}=exit@3"))
    assert job(database, job_id).succeeded < PAGES
    start(DISPATCHER)
    finish(database, job_id)
    assert sql(database, "SELECT sum(losses), sum(failures) FROM pages")[0] == (0, 0)


def test_a_producer_that_dies_while_it_expands_goes_on_where_it_was(start: Start, database: Database) -> None:
    job_id = submit_manifest(database)
    dies(start(PRODUCER, "expand.chunk=exit@2"))
    assert job(database, job_id).items_total == 128, "two chunks of five"
    # Its lease, which nobody renews any more.
    sql(database, "UPDATE jobs SET expansion_leased_until = now()")
    start(WORKER)
    start(PRODUCER)
    finish(database, job_id)


def test_a_leader_that_dies_in_a_redrive_has_it_ended_by_the_next(start: Start, database: Database) -> None:
    count = 100 + redrives.STEP + 300
    torn = [NewItem(n, "ocr", f"{n}.png", error=CorruptFile("torn")) for n in range(count)]
    job_id = add_job(database, torn)
    with database.transaction() as session:
        asked = NewRedrive(tenant_id(session), LetterFilter(all=True), override={})
        redrives.create(session, asked, "a key", chunk=100)
    dies(start(DISPATCHER, "redrive.chunk=exit@1"))
    (redrive,) = sql(database, "SELECT pages, finished_at FROM redrives")
    assert redrive == (100 + redrives.STEP, None)
    start(WORKER)
    start(DISPATCHER)
    finish(database, job_id, count)
    assert sql(database, "SELECT pages FROM redrives")[0].pages == count


def test_a_producer_that_dies_while_it_purges_leaves_the_rest_to_the_next(
    start: Start, database: Database
) -> None:
    job_id = add_job(database, PAGES)
    with database.transaction() as session:
        control.cancel(session, tenant_id(session), job_id)
        control.delete(session, tenant_id(session), job_id, actor="a key")
    dies(start(PRODUCER, "purge.chunk=exit@1"))
    left = "SELECT (SELECT count(*) FROM pages) AS pages, (SELECT count(*) FROM jobs) AS jobs"
    assert sql(database, left)[0] == (0, 1), "a chunk of rows is gone, the job is not"
    start(PRODUCER)
    wait_for(lambda: sql(database, left)[0].jobs == 0)
    assert found(database) == []
