"""What the tests of the fleet's parts share: jobs with ready pages, their messages, and what the record says of them."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from uuid import UUID, uuid4

import orjson
import psutil
from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from ocrfleet.db import Database
from ocrfleet.messages import PageBatch
from ocrfleet.states import Lane, WorkerState
from ocrfleet.store import dispatch, expansion, jobs, outcomes, workers
from ocrfleet.store.expansion import Expansion, NewItem
from ocrfleet.store.pages import ClaimedPage
from ocrfleet.store.workers import Heartbeat, Registration

PATIENCE = 30.0
"""Seconds a wait may take before the test has failed; no claim about speed."""

T = TypeVar("T")


def wait_for(what: Callable[[], T], patience: float = PATIENCE) -> T:
    """The first value of `what` that is true."""
    pause, end = threading.Event(), time.monotonic() + patience
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        pause.wait(0.02)
    return found


def is_gone(process: psutil.Process) -> bool:
    """Whether it has ended, though its parent may not have noticed."""
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def claimed_page(**values: Any) -> ClaimedPage:
    """A page as a claim gives it."""
    given: dict[str, Any] = {
        "id": 1, "fence": 1, "number": 1, "item_id": 1, "job_id": UUID(int=1), "tenant_id": UUID(int=2), "attempt": 1, "failures": 0, "losses": 0,
        "queued_ms": 12, "bucket": "ocr", "key": "a.png", "etag": None, "version_id": None, "page_count": None,
        "item_options": None, "task": "text", "prompt": None, "options": {},
    }  # fmt: skip
    return ClaimedPage(**given | values)


def tenant_id(session: Session, name: str = "default") -> UUID:
    return session.execute(text("SELECT id FROM tenants WHERE name = :name"), {"name": name}).scalar_one()


def add_job(
    database: Database, items: int | Sequence[NewItem] = 1, *, tenant: str = "default", **job: Any
) -> UUID:
    """A job that is expanded: every item that need not be counted has its page, ready."""
    if isinstance(items, int):
        items = [NewItem(n, "ocr", f"{n}.png") for n in range(items)]
    job_id = uuid4()
    with database.transaction() as session:
        members = {"task": "text", "input": {"type": "objects", "objects": []}} | job
        jobs.create(session, jobs.NewJob(id=job_id, tenant_id=tenant_id(session, tenant), **members))
        fresh = Expansion(job_id, {}, {}, {})
        expansion.write(session, fresh, {"next": len(items)}, items, listed=True, seconds=30)
    return job_id


def submit_manifest(database: Database, key: str = "m.jsonl") -> UUID:
    """A job as the API leaves it to the producer."""
    job_id = uuid4()
    with database.transaction() as session:
        given = {"type": "manifest", "bucket": "ocr", "key": key}
        jobs.create(session, jobs.NewJob(job_id, tenant_id(session), "text", given))
    return job_id


def send(
    database: Database, *job_ids: UUID, limit: int = 1000, lane: Lane = Lane.BULK, exclusive: bool = False
) -> PageBatch:
    """Dispatch ready pages as one message, which is returned instead of published."""
    with database.transaction() as session:
        jobs.start(session, job_ids)
        taken = (dispatch.take(session, job_ids, limit, suspects=suspects) for suspects in (True, False))
        found = [page for some in taken for page, _ in some]
        (batch_id,) = dispatch.batch_ids(session, 1)
        fences = dispatch.mark(session, [(batch_id, found)])
    return PageBatch(batch_id, lane, sorted(fences.items()), exclusive)


def sql(database: Database, statement: str, **values: Any) -> Sequence[Row[Any]]:
    """What a statement of the test's own returns."""
    with database.transaction() as session:
        result = session.execute(text(statement), values)
        return result.all() if result.returns_rows else []


def leaders(database: Database) -> list[int]:
    """Backends that hold the leader's lock; one at most."""
    query = """
        SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    return [row.pid for row in sql(database, query)]


def pages(database: Database, job_id: UUID) -> Sequence[Row[Any]]:
    query = """
        SELECT p.*, extract(epoch FROM p.not_before - now()) AS due_in, i.key, i.ordinal FROM pages p
        JOIN items i ON i.id = p.item_id WHERE p.job_id = :job ORDER BY i.ordinal, p.number"""
    return sql(database, query, job=job_id)


def page_states(database: Database, job_id: UUID) -> list[str]:
    return [page.state for page in pages(database, job_id)]


def attempts(database: Database, job_id: UUID) -> Sequence[Row[Any]]:
    query = """
        SELECT a.* FROM attempts a JOIN pages p ON p.id = a.page_id WHERE p.job_id = :job
        ORDER BY a.page_id, a.attempt"""
    return sql(database, query, job=job_id)


def job(database: Database, job_id: UUID) -> Row[Any]:
    return sql(database, "SELECT * FROM jobs WHERE id = :job", job=job_id)[0]


def results(database: Database, job_id: UUID) -> list[dict[str, Any]]:
    """The lines of the job's results."""
    with database.transaction() as session:
        return [orjson.loads(line) for _, line in outcomes.after(session, job_id, 0, 1_000_000)]


def again_now(database: Database, job_id: UUID) -> None:
    """End every backoff."""
    sql(database, "UPDATE pages SET not_before = now() WHERE job_id = :job AND state = 'ready'", job=job_id)


_RECOUNT = """
SELECT j.total = count(p.id) AS total,
       j.succeeded = count(p.id) FILTER (WHERE p.state = 'succeeded') AS succeeded,
       j.dead = count(p.id) FILTER (WHERE p.state = 'dead') AS dead,
       j.canceled = count(p.id) FILTER (WHERE p.state = 'canceled') AS canceled,
       coalesce(bool_and((o.page_id IS NOT NULL) = (p.state IN ('succeeded', 'dead'))), true) AS outcomes,
       coalesce(bool_and(o.state = p.state AND o.fence <= p.fence) FILTER (WHERE o.page_id IS NOT NULL), true) AS agree,
       count(DISTINCT o.seq) = count(o.seq) AND coalesce(max(o.seq), 0) <= j.result_seq AS sequence
FROM jobs j LEFT JOIN pages p ON p.job_id = j.id LEFT JOIN outcomes o ON o.page_id = p.id
WHERE j.id = :job GROUP BY j.id
"""


def check_record(database: Database, job_id: UUID) -> None:
    """The job's counters equal a recount, and each page that ended has its one outcome."""
    (row,) = sql(database, _RECOUNT, job=job_id)
    assert {name: value for name, value in row._mapping.items() if not value} == {}


def add_worker(
    database: Database,
    *,
    slots: int = 8,
    in_flight: int = 16,
    rate: float = 0.0,
    state: WorkerState = WorkerState.READY,
    silent_for: float = 0.0,
    batches: Sequence[int] = (),
) -> UUID:
    """A live worker of the record; `silent_for` seconds have passed since its heartbeat."""
    incarnation = uuid4()
    members = {
        "name": "w",
        "host": "h",
        "pid": 1,
        "device": "cpu",
        "engine": "null",
        "model": "m",
        "revision": "1",
    }
    with database.transaction() as session:
        registration = Registration(
            incarnation, tasks=["text"], slots=slots, in_flight_target=in_flight, state=state, **members
        )  # type: ignore[arg-type]
        workers.register(session, registration)
        workers.beat(session, incarnation, Heartbeat(state, list(batches), 0, rate, None))
        values = {"ago": silent_for, "incarnation": incarnation}
        statement = """
            UPDATE workers SET heartbeat_at = heartbeat_at - make_interval(secs => :ago),
                previous_heartbeat_at = previous_heartbeat_at - make_interval(secs => :ago)
            WHERE incarnation = :incarnation"""
        session.execute(text(statement), values)
    return incarnation
