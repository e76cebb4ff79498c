"""Batches of the OpenAI-shaped façade: their file is read and becomes jobs; when those have ended, files are written."""

import structlog
from sqlalchemy.exc import SQLAlchemyError

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import FleetError
from ocrfleet.settings import Settings
from ocrfleet.states import BatchStatus
from ocrfleet.store import batches
from producer.batch_reading import Reading
from producer.batch_turn import LEASE_SECONDS, LeaseLost
from producer.batch_writing import Writing

log = structlog.get_logger()

_RETRY_AFTER = 5.0


class Batcher:
    """Any number of producers may do so at once."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs

    def step(self) -> bool:
        """Give one batch its turn; False if there is nothing to do for any."""
        with self._database.statement() as session:
            turn = batches.lease(session, LEASE_SECONDS)
        if turn is None:
            return False
        try:
            if turn.status is BatchStatus.VALIDATING:
                Reading(self._settings, self._database, self._blobs, turn).run()
            else:
                Writing(self._settings, self._database, self._blobs, turn).run()
        except LeaseLost:
            log.info("batch_lease_lost", batch_id=turn.id)
        except FleetError as exc:
            log.warning("batch_postponed", batch_id=turn.id, code=exc.code, error=exc.detail)
            with self._database.statement() as session:
                batches.postpone(session, turn, _RETRY_AFTER)
        except SQLAlchemyError as exc:
            # Its lease runs out.
            log.warning("batch_postponed", batch_id=turn.id, error=str(exc))
        return True
