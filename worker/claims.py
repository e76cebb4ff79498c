"""Batches at the record: their pages are claimed, or given back for another worker."""

import threading
from contextlib import suppress
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ocrfleet.db import Database
from ocrfleet.messages import PageBatch
from ocrfleet.store import dispatch, pages
from ocrfleet.store.pages import ClaimedPage

log = structlog.get_logger()

_TRIES, _PAUSE = 3, 0.5


class Claims:
    """Those of one incarnation; blocking."""

    def __init__(self, database: Database, incarnation: UUID) -> None:
        self._database = database
        self._incarnation = incarnation

    def take(self, batch: PageBatch) -> list[ClaimedPage]:
        """What of the batch is ours now; nothing while the database is away."""
        for left in reversed(range(_TRIES)):
            try:
                with self._database.transaction() as session:
                    return pages.claim(session, self._incarnation, batch.pages)
            except SQLAlchemyError as exc:
                # A commit whose answer was lost leaves pages running that we do not know of: the sweeper finds
                # that our heartbeats do not name them.
                log.warning("claim_failed", batch_id=batch.batch_id, error=str(exc), tries_left=left)
                threading.Event().wait(_PAUSE if left else 0.0)
        return []

    def give_back(self, batch: PageBatch) -> list[ClaimedPage]:
        """What came at a bad time goes to another worker at once, instead of when the sweeper misses it."""
        with suppress(SQLAlchemyError), self._database.transaction() as session:
            dispatch.unmark(session, [batch.batch_id])
        return []
