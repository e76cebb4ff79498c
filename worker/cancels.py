"""Cancellations, heard at once: a job's running pages are aborted before the next heartbeat would say so."""

import asyncio
import threading
from contextlib import aclosing

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ocrfleet.db import Database
from ocrfleet.store import notify, workers
from worker.runner import Runner

log = structlog.get_logger()

_AGAIN, _TRIES = 0.1, 10
"""Seconds between looks, and how many: a page claimed this moment is known to the runner a little later."""


class Cancels:
    """Listens on one connection of its own. What it misses, the heartbeats find."""

    def __init__(self, database: Database, runner: Runner) -> None:
        self._database = database
        self._runner = runner
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._listen())
        self._thread = threading.Thread(target=self._run, name="cancels", daemon=True)

    def start(self) -> None:
        """The database need not be there."""
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(asyncio.wait([self._task]))
        self._loop.close()

    async def _listen(self) -> None:
        told = notify.payloads(self._database.url, notify.CANCEL, "ocrfleet-worker-listen")
        async with aclosing(told):
            async for _ in told:
                for _ in range(_TRIES):
                    # Nothing else runs on this loop, so that it may wait for the database.
                    if not self._abort():
                        break
                    await asyncio.sleep(_AGAIN)

    def _abort(self) -> int:
        """Abort what runs here of jobs that are being canceled; how many pages there were."""
        try:
            with self._database.statement() as session:
                leases = workers.to_abort(session, self._runner.incarnation)
        except SQLAlchemyError as exc:
            log.warning("cancel_unheard", error=str(exc))
            return 0
        self._runner.abort(leases)
        return len(leases)
