"""What the store tests build on: a record to fill, the protocol's steps in one line each, and racing sessions."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from ocrfleet.db import Database
from ocrfleet.errors import FleetError
from ocrfleet.states import PageState, WorkerState
from ocrfleet.store import control, dispatch, expansion, jobs, outcomes, pages, settle, sweep, workers
from ocrfleet.store.counting import lease_items
from ocrfleet.store.expansion import CountedItem, Expansion, NewItem, PendingItem
from ocrfleet.store.jobs import NewJob
from ocrfleet.store.pages import ClaimedPage
from ocrfleet.store.settle import Settlement
from ocrfleet.store.workers import Heartbeat, Registration

TIMEOUT = 0.1
"""Of heartbeats, in sweeps (seconds): no lease expires before the server itself is that old."""
PATIENCE = 30.0
"""How long anything may wait before the test has failed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A message: the pages it names, each with its fence."""

    id: int
    pages: list[tuple[int, int]]


class Record:
    """A database and the protocol's steps on it, each in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.tenant: UUID = self.scalar("SELECT id FROM tenants WHERE name = 'default'")
        self._silent: set[UUID] = set()

    def run(self, statement: str, **values: Any) -> list[Row[Any]]:
        with self.database.transaction() as session:
            result: Any = session.execute(text(statement), values)
            return list(result) if result.returns_rows else []

    def scalar(self, statement: str, **values: Any) -> Any:  # noqa: ANN401
        return self.run(statement, **values)[0][0]

    # Jobs and their pages

    def job(self, tenant: UUID | None = None, **asked: Any) -> UUID:
        """A job to be expanded."""
        job_id = uuid4()
        asked = {"task": "text", "input": {"type": "prefix", "bucket": "in", "prefix": ""}} | asked
        with self.database.transaction() as session:
            jobs.create(session, NewJob(job_id, tenant or self.tenant, **asked))
        return job_id

    def expand(self, job_id: UUID, items: Sequence[NewItem], *, listed: bool = True) -> Expansion:
        """Write a chunk of the job's input from where its cursor stands."""
        cursor = self.state(job_id).cursor
        with self.database.transaction() as session:
            at = Expansion(job_id, {}, {}, cursor)
            after = {"next": int(cursor.get("next", 0)) + len(items)}
            return expansion.write(session, at, after, items, listed=listed, seconds=60.0)

    def ready(self, count: int = 3, **asked: Any) -> UUID:
        """An expanded job with `count` ready pages."""
        job_id = self.job(**asked)
        self.expand(job_id, scans(count))
        return job_id

    def state(self, job_id: UUID) -> Row[Any]:
        return self.run("SELECT * FROM jobs WHERE id = :job", job=job_id)[0]

    def pages(self, job_id: UUID) -> list[Row[Any]]:
        return self.run("SELECT * FROM pages WHERE job_id = :job ORDER BY id", job=job_id)

    def page(self, page_id: int) -> Row[Any]:
        return self.run("SELECT * FROM pages WHERE id = :page", page=page_id)[0]

    def states(self, job_id: UUID) -> list[str]:
        return [page.state for page in self.pages(job_id)]

    def lines(self, job_id: UUID, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        with self.database.transaction() as session:
            return list(outcomes.after(session, job_id, after, limit))

    def cancel(self, job_id: UUID, because: type[FleetError] | None = None) -> str:
        with self.database.transaction() as session:
            more = () if because is None else (because,)
            return control.cancel(session, self.tenant, job_id, *more)

    def pending(self, limit: int = 100) -> list[PendingItem]:
        """Lease items to count, and let the lease lapse at once."""
        with self.database.transaction() as session:
            return lease_items(session, limit, 0.0, per_job=limit)

    def count(self, *found: CountedItem) -> None:
        with self.database.transaction() as session:
            expansion.counted(session, found)

    # Messages, leases, settlements

    def dispatch(self, *job_ids: UUID, limit: int = 1000) -> Batch:
        """Move ready pages of the jobs into one batch."""
        with self.database.transaction() as session:
            jobs.start(session, job_ids)
            taken = dispatch.take(session, job_ids, limit, suspects=True)
            taken += dispatch.take(session, job_ids, limit - len(taken), suspects=False)
            (batch_id,) = dispatch.batch_ids(session, 1)
            fences = dispatch.mark(session, [(batch_id, [page for page, _ in taken])])
        return Batch(batch_id, sorted(fences.items()))

    def claim(self, worker: UUID, batch: Batch) -> list[ClaimedPage]:
        with self.database.transaction() as session:
            return pages.claim(session, worker, batch.pages)

    def running(self, count: int = 3, **asked: Any) -> tuple[UUID, UUID, Batch]:
        """A job whose pages all run: its id, their worker, their batch."""
        job_id, worker = self.ready(count, **asked), self.worker()
        batch = self.dispatch(job_id)
        self.claim(worker, batch)
        return job_id, worker, batch

    def settle(self, *settlements: Settlement) -> set[int]:
        with self.database.transaction() as session:
            return settle.settle(session, settlements)

    # Workers and the sweeper

    def worker(self, **members: Any) -> UUID:
        registration = registered(**members)
        with self.database.transaction() as session:
            workers.register(session, registration)
        return registration.incarnation

    def beat(self, worker: UUID, *batches: int, state: WorkerState = WorkerState.READY) -> bool:
        self._silent.discard(worker)
        with self.database.transaction() as session:
            return workers.beat(session, worker, Heartbeat(state, batches, len(batches), 1.0, None))

    def silence(self, worker: UUID, *, since: str = "pg_postmaster_start_time() + interval '1 ms'") -> None:
        """The worker has not beaten since then; by default, since the database started."""
        self._silent.add(worker)
        self.run(f"UPDATE workers SET heartbeat_at = {since} WHERE incarnation = :worker", worker=worker)  # noqa: S608

    def sweep(self) -> sweep.Swept:
        """Sweep the leases; of workers that were not silenced the heartbeats are fresh."""
        with self.database.transaction() as session:
            self._refresh(session, "1 hour")
            swept = sweep.leases(session, TIMEOUT)
            self._refresh(session, "-1 hour")
        return swept

    def sweep_messages(self, *, empty: bool = False, restarted: bool = False, drain: float = 0.0) -> int:
        with self.database.transaction() as session:
            self._refresh(session, "1 hour")
            returned = sweep.messages(
                session, TIMEOUT, queue_empty=empty, broker_restarted=restarted, drain_seconds=drain
            )
            self._refresh(session, "-1 hour")
        return returned

    def _refresh(self, session: Session, by: str) -> None:
        query = """
            UPDATE workers SET heartbeat_at = heartbeat_at + CAST(:by AS interval)
            WHERE NOT incarnation = ANY(CAST(:silent AS uuid[]))"""
        session.execute(text(query), {"by": by, "silent": list(self._silent)})

    def age(self, batch: Batch, seconds: float) -> None:
        """Let the batch's pages have entered their state that long ago."""
        query = "UPDATE pages SET since = now() - make_interval(secs => :by) WHERE batch_id = :batch"
        self.run(query, by=seconds, batch=batch.id)

    def recount(self) -> None:
        """The counters and sequences of every job are what its rows say, and no row is an orphan."""
        with self.database.transaction() as session:
            for check in (_RECOUNT, _STREAMS, _ORPHANS):
                assert session.execute(text(check)).all() == []

    def clear(self) -> None:
        """Empty the record; far quicker than another database."""
        with self.database.transaction() as session:
            for table in ("job_errors", "jobs", "items", "pages", "outcomes", "attempts", "workers"):
                session.execute(text(f"DELETE FROM {table}"))  # noqa: S608


_RECOUNT = """
SELECT j.* FROM (SELECT * FROM jobs WHERE purged_at IS NULL) j LEFT JOIN LATERAL (
    SELECT count(*) AS total, count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE state = 'dead') AS dead, count(*) FILTER (WHERE state = 'canceled') AS canceled
    FROM pages p WHERE p.job_id = j.id
) p ON true LEFT JOIN LATERAL (
    SELECT count(*) AS total, count(*) FILTER (WHERE state = 'pending') AS pending FROM items i WHERE i.job_id = j.id
) i ON true LEFT JOIN LATERAL (
    SELECT coalesce(sum(e.pages), 0) AS dead FROM job_errors e WHERE e.job_id = j.id
) e ON true
WHERE (j.total, j.succeeded, j.dead, j.canceled, j.items_total, j.items_pending, j.dead)
    IS DISTINCT FROM (p.total, p.succeeded, p.dead, p.canceled, i.total, i.pending, e.dead)
   OR (j.finished_at IS NOT NULL AND j.state <> 'failed')
      <> (j.expanded_at IS NOT NULL AND j.succeeded + j.dead + j.canceled = j.total AND j.state <> 'failed')"""
# An outcome for each result and dead letter, of the fence the page ended under, numbered without a gap but where
# letters were redriven.
_STREAMS = """
SELECT p.id, o.seq FROM pages p FULL JOIN outcomes o ON o.page_id = p.id
WHERE (p.state IN ('succeeded', 'dead')) IS DISTINCT FROM (o.page_id IS NOT NULL)
   OR o.state <> p.state OR o.fence <> p.fence OR o.job_id <> p.job_id
UNION ALL
SELECT NULL, j.result_seq FROM jobs j JOIN outcomes o ON o.job_id = j.id WHERE j.purged_at IS NULL
GROUP BY j.id HAVING max(o.seq) > j.result_seq OR (count(*) <> j.result_seq
    AND NOT EXISTS (SELECT 1 FROM pages r WHERE r.job_id = j.id AND r.redrive_id IS NOT NULL))"""
_ORPHANS = """
SELECT 'page', p.id FROM pages p LEFT JOIN items i ON i.id = p.item_id AND i.job_id = p.job_id WHERE i.id IS NULL
UNION ALL SELECT 'item', i.id FROM items i LEFT JOIN jobs j ON j.id = i.job_id WHERE j.id IS NULL
UNION ALL SELECT 'attempt', a.page_id FROM attempts a LEFT JOIN pages p ON p.id = a.page_id WHERE p.id IS NULL"""


def scans(count: int, *, start: int = 0, countable: bool = False) -> list[NewItem]:
    """Items of an input, from the ordinal `start`."""
    kind = "pdf" if countable else "png"
    return [
        NewItem(n, "in", f"{n}.{kind}", etag=f"e{n}", countable=countable)
        for n in range(start, start + count)
    ]


def registered(**members: Any) -> Registration:
    """A worker that is ready, unless `members` say otherwise."""
    usual: dict[str, Any] = {
        "incarnation": uuid4(),
        "name": "ocr@host",
        "host": "host",
        "pid": 1,
        "device": "cpu:1",
        "engine": "null",
        "model": "none",
        "revision": "1",
        "tasks": ["text"],
        "slots": 8,
        "in_flight_target": 4,
        "state": WorkerState.READY,
    }
    return Registration(**usual | members)


def settlement(
    page: ClaimedPage | Row[Any], state: PageState = PageState.SUCCEEDED, **members: Any
) -> Settlement:
    """What became of a page that was claimed, or whose row is given."""
    if state == PageState.DEAD:
        members = {"code": "corrupt_file", "detail": "torn", "body": '{"error":{}}'} | members
    return Settlement(page.id, page.fence, page.job_id, page.item_id, page.attempt, state, **members)


class Racer:
    """A step in a transaction of its own, on a thread: it stops where it has to wait for a lock."""

    def __init__(self, database: Database, step: Callable[[Session], Any]) -> None:
        self._database = database
        self._step = step
        self._pid: Future[int] = Future()
        self._result: Future[Any] = Future()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            with self._database.transaction() as session:
                self._pid.set_result(session.execute(text("SELECT pg_backend_pid()")).scalar_one())
                session.execute(text(f"SET LOCAL lock_timeout = {round(PATIENCE * 1000)}"))
                result = self._step(session)
            self._result.set_result(result)
        except BaseException as exc:  # noqa: BLE001 (handed to the test)
            self._result.set_exception(exc)

    def waits(self) -> bool:
        """Whether it came to wait for a lock; False if it went through."""
        pid, pause = self._pid.result(PATIENCE), threading.Event()
        query = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = :pid"
        while not self._result.done():
            with self._database.transaction() as session:
                if session.execute(text(query), {"pid": pid}).scalar() == "Lock":
                    return True
            pause.wait(0.005)
        return False

    def result(self) -> Any:  # noqa: ANN401
        return self._result.result(PATIENCE)
