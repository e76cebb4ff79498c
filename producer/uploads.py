"""Expiry of uploads: what nobody completed within its time leaves the store, and is said to have expired."""

import structlog

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import FleetError
from ocrfleet.presign import Presigner
from ocrfleet.settings import Settings
from ocrfleet.store import uploads

log = structlog.get_logger()


def expire(config: Settings, database: Database, blobs: Blobs, presigner: Presigner | None) -> int:
    """Remove the bytes and parts of uploads that are too old, or were given up; returns of how many.

    Any number of producers may do so at once. FleetError: the store does not answer, and the rest waits.
    """
    with database.transaction() as session:
        due = uploads.expire(session, config.upload_expiry)
    for row in due:
        if row["multipart_id"] and presigner is not None:
            presigner.abort(row["bucket"], row["key"], row["multipart_id"])
        blobs.remove(row["bucket"], row["key"])
        with database.transaction() as session:
            uploads.cleared(session, row["id"])
    return len(due)


def clean(config: Settings, database: Database, blobs: Blobs, presigner: Presigner | None) -> None:
    """`expire`, whose failure is no matter of those who clean other things."""
    try:
        if gone := expire(config, database, blobs, presigner):
            log.info("uploads_expired", uploads=gone)
    except FleetError as exc:
        log.warning("uploads_not_cleared", code=exc.code, error=exc.detail)
