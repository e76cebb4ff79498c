"""Expiry of uploads: what nobody completed within its time leaves the store, and is said to have expired."""

import structlog
from sqlalchemy import RowMapping

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import FleetError, InputNotFound, StorageUnavailable
from ocrfleet.presign import Presigner
from ocrfleet.settings import Settings
from ocrfleet.store import uploads

log = structlog.get_logger()


def expire(config: Settings, database: Database, blobs: Blobs, presigner: Presigner | None) -> int:
    """Remove the bytes and parts of uploads that are too old, or were given up; returns of how many.

    Any number of producers may do so at once. StorageUnavailable: the store does not answer, and the rest waits; what
    it refuses holds up no other.
    """
    removed, after = 0, None
    while True:
        with database.transaction() as session:
            due = uploads.expire(session, config.upload_expiry, after=after)
        for row in due:
            if _remove(blobs, presigner, row):
                with database.transaction() as session:
                    uploads.cleared(session, row["id"])
                removed += 1
            after = row["created_at"], row["id"]
        if not due:
            return removed


def _remove(blobs: Blobs, presigner: Presigner | None, row: RowMapping) -> bool:
    """Whether nothing of the upload is in the store any more."""
    try:
        if row["multipart_id"] and presigner is not None:
            presigner.abort(row["bucket"], row["key"], row["multipart_id"])
        blobs.remove(row["bucket"], row["key"])
    except InputNotFound:
        # Its bucket is gone.
        return True
    except StorageUnavailable:
        raise
    except FleetError as exc:
        log.warning("upload_not_cleared", upload_id=str(row["id"]), code=exc.code, error=exc.detail)
        return False
    return True


def clean(config: Settings, database: Database, blobs: Blobs, presigner: Presigner | None) -> None:
    """`expire`, whose failure is no matter of those who clean other things."""
    try:
        if gone := expire(config, database, blobs, presigner):
            log.info("uploads_expired", uploads=gone)
    except FleetError as exc:
        log.warning("uploads_not_cleared", code=exc.code, error=exc.detail)
