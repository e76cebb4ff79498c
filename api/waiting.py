"""Waiting for jobs: many requests, one LISTEN connection, no thread and no transaction."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from ocrfleet.db import Database
from ocrfleet.errors import NoCapacity, RateLimited
from ocrfleet.store import jobs, notify
from ocrfleet.store.jobs import Standing

log = structlog.get_logger()
_FULL = 5
"""Seconds after which to ask again for a place."""


@dataclass(eq=False, slots=True)
class _Waiter:
    seen: str | None
    """The version that it knows of, where another one is news; None: it waits for the end alone."""
    event: asyncio.Event = field(default_factory=asyncio.Event)


class Followers:
    """Places for streams that stay open: so many in this process, and so many of one tenant."""

    def __init__(self, most: int, of_tenant: int) -> None:
        self._most = most
        self._of_tenant = of_tenant
        self._open: Counter[UUID] = Counter()

    @contextmanager
    def one_more(self, tenant_id: UUID) -> Generator[None]:
        """Hold a place; RateLimited where the tenant has all of its, NoCapacity where there is none."""
        if (has := self._open[tenant_id]) >= self._of_tenant:
            detail = f"Your tenant follows {has} streams of results here, and may follow {self._of_tenant}."
            raise RateLimited(detail, limit=self._of_tenant, actual=has, retry_after=_FULL)
        if (there := self._open.total()) >= self._most:
            detail = f"This process follows {there} streams of results, as many as it takes."
            raise NoCapacity(detail, limit=self._most, actual=there, retry_after=_FULL)
        self._open[tenant_id] += 1
        try:
            yield
        finally:
            self._open[tenant_id] -= 1
            if not self._open[tenant_id]:
                del self._open[tenant_id]


class JobWatch:
    """Tells waiters that their job has ended, or changed. It polls every `poll` seconds, and is told of ends at once.

    A notification is a hint: what was missed is found by the poll.
    """

    def __init__(self, database: Database, *, poll: float = 1.0) -> None:
        self._database = database
        self._poll = poll
        self._waiting: defaultdict[str, set[_Waiter]] = defaultdict(set)

    @contextmanager
    def expect(self, job_id: UUID, seen: str | None = None) -> Generator[asyncio.Event]:
        """An event that is set when the job has ended, or has another version than the one `seen`.

        Enter before the job is made, or after that version was read: no change between is missed.
        """
        key, waiter = str(job_id), _Waiter(seen)
        self._waiting[key].add(waiter)
        try:
            yield waiter.event
        finally:
            self._waiting[key].discard(waiter)
            if not self._waiting[key]:
                del self._waiting[key]

    async def changed(self, job_id: UUID, seen: str, seconds: float) -> None:
        """Return when the job has ended or has another version, after so many seconds at the latest."""
        with self.expect(job_id, seen) as event, suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), seconds)

    async def run(self) -> None:
        """Listen and poll until canceled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._look())

    async def _listen(self) -> None:
        async for job_id in notify.payloads(self._database.url, notify.JOB_DONE, "ocrfleet-api-listen"):
            for waiter in self._waiting.get(job_id, ()):
                waiter.event.set()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._poll)
            if not self._waiting:
                continue
            try:
                for job in await run_in_threadpool(self._read, list(self._waiting)):
                    for waiter in self._waiting.get(str(job.id), ()):
                        if job.ended or waiter.seen not in (None, job.version):
                            waiter.event.set()
            except SQLAlchemyError as exc:
                log.warning("poll_failed", error=str(exc))

    def _read(self, job_ids: list[str]) -> list[Standing]:
        with self._database.statement() as session:
            return jobs.standing(session, [UUID(job_id) for job_id in job_ids])
