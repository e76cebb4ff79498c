"""Purging: what callers have deleted is taken away, first from our bucket, then from the record."""

import structlog

from ocrfleet import failpoints
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import FleetError
from ocrfleet.settings import Settings
from ocrfleet.store import purge

log = structlog.get_logger()

LEASE_SECONDS = 60.0


class Purger:
    """Any number of producers may do so at once; here, and not with the leader, since the store may be slow."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self._bucket = settings.bucket
        self._database = database
        self._blobs = blobs

    def step(self) -> bool:
        """Take one chunk away; False if nothing is deleted."""
        with self._database.transaction() as session:
            chunk = purge.lease(session, LEASE_SECONDS)
        if chunk is None:
            return False
        try:
            for key in chunk.thumbnails:
                self._blobs.remove(self._bucket, key)
        except FleetError as exc:
            # The rows are all that names the objects: they stay until the lease has run out, and it is tried again.
            log.warning("purge_postponed", job_id=str(chunk.job_id), code=exc.code, error=exc.detail)
            return True
        with self._database.transaction() as session:
            purge.step(session, chunk)
        failpoints.reach("purge.chunk")
        return True
