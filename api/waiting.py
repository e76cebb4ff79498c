"""Waiting for interactive jobs: many requests, one LISTEN connection, no thread and no transaction."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from ocrfleet.db import Database
from ocrfleet.store import jobs, notify

log = structlog.get_logger()


class JobWatch:
    """Tells waiters that their job has ended. A notification is a hint, so it polls every `poll` seconds as well."""

    def __init__(self, database: Database, *, poll: float = 1.0) -> None:
        self._database = database
        self._poll = poll
        self._waiting: dict[str, asyncio.Event] = {}

    @contextmanager
    def expect(self, job_id: UUID) -> Generator[asyncio.Event]:
        """An event that is set when the job has ended; enter before the job is made."""
        ended = self._waiting[str(job_id)] = asyncio.Event()
        try:
            yield ended
        finally:
            del self._waiting[str(job_id)]

    async def run(self) -> None:
        """Listen and poll until canceled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._look())

    async def _listen(self) -> None:
        async for job_id in notify.payloads(self._database.url, notify.JOB_DONE, "ocrfleet-api-listen"):
            self._ended(job_id)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._poll)
            if not self._waiting:
                continue
            try:
                for job_id in await run_in_threadpool(self._find_ended, list(self._waiting)):
                    self._ended(str(job_id))
            except SQLAlchemyError as exc:
                log.warning("poll_failed", error=str(exc))

    def _find_ended(self, job_ids: list[str]) -> set[UUID]:
        with self._database.transaction() as session:
            return jobs.ended(session, [UUID(job_id) for job_id in job_ids])

    def _ended(self, job_id: str) -> None:
        if event := self._waiting.get(job_id):
            event.set()
