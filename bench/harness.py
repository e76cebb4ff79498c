"""What the benches share: a fleet in a folder of its own, jobs in its record, CPU seconds and memory of its processes."""

import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
from sqlalchemy import RowMapping, text

from ocrfleet import db
from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.settings import Settings
from ocrfleet.store import jobs

POLL = 0.05
SLOW_POLL = 1.0
"""For jobs that take all of the machine and have their own times in their row."""


@contextmanager
def fleet(services: Sequence[str], **settings: str) -> Generator[Fleet]:
    """A fleet with the null engine, settings given without their prefix; its data is deleted at the end."""
    state = Path(tempfile.mkdtemp(prefix="ocrfleet-bench-"))
    # Postgres runs as a user of its own and has to reach its folder.
    state.chmod(0o755)
    # A page that was read in an earlier round is to be read again.
    given = {"result_cache": "false", **settings}
    extra = {f"OCRFLEET_{name.upper()}": value for name, value in given.items()}
    try:
        with Fleet(state, engine="null", services=services, extra=extra) as running:
            yield running
    finally:
        shutil.rmtree(state, ignore_errors=True)


def settings_of(running: Fleet) -> Settings:
    """The settings of the fleet's services."""
    given = {name.removeprefix("OCRFLEET_").lower(): value for name, value in running.environment.items()}
    return Settings.model_validate(given)


@contextmanager
def database(running: Fleet) -> Generator[Database]:
    """A connection beside the fleet's own."""
    pool = db.Database(running.urls["postgres"], application="bench", pool_size=2)
    try:
        yield pool
    finally:
        pool.close()


def ready(pool: Database, workers: int, poll: float = POLL) -> None:
    """Wait until that many workers beat."""
    while True:
        with pool.transaction() as session:
            if session.execute(text("SELECT count(*) FROM workers")).scalar() == workers:
                return
        time.sleep(poll)


def submit(pool: Database, given: Mapping[str, Any], *, paused: bool) -> UUID:
    """Add a job of the default tenant; a paused one expands, but is not dispatched."""
    job_id = uuid4()
    with pool.transaction() as session:
        tenant = session.execute(text("SELECT id FROM tenants")).scalar_one()
        jobs.create(session, jobs.NewJob(job_id, tenant, "text", given))
        if paused:
            session.execute(text("UPDATE jobs SET state = 'paused' WHERE id = :job"), {"job": job_id})
    return job_id


def resume(pool: Database, job_id: UUID) -> None:
    """Start the clock of a paused job."""
    query = "UPDATE jobs SET state = 'running', started_at = now() WHERE id = :job"
    with pool.transaction() as session:
        session.execute(text(query), {"job": job_id})
        session.execute(text("SELECT pg_notify('ocrfleet_work', '')"))


def wait(
    pool: Database, job_id: UUID, until: Callable[[RowMapping], object], poll: float = POLL
) -> RowMapping:
    """Poll the job's row until the condition holds."""
    while True:
        with pool.statement() as session:
            query = "SELECT * FROM jobs WHERE id = :job"
            row = session.execute(text(query), {"job": job_id}).mappings().one()
        if until(row):
            return row
        time.sleep(poll)


def finish(pool: Database, job_id: UUID, poll: float = POLL) -> RowMapping:
    """The job's row when it has ended; it must have succeeded to the last page."""
    row = wait(pool, job_id, lambda job: job["finished_at"], poll)
    if row["succeeded"] != row["total"]:
        msg = f"only {row['succeeded']} of {row['total']} pages succeeded"
        raise RuntimeError(msg)
    return row


def cpu_seconds(pids: Mapping[str, int]) -> float:
    """User and system time of these processes and all their children, ended ones included."""
    total = 0.0
    for pid in pids.values():
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
