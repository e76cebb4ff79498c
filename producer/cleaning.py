"""What is cleaned up now and then: inputs of synchronous requests, uploads nobody completed, images of batches."""

from datetime import UTC, datetime, timedelta

import structlog

from ocrfleet import presign
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import FleetError
from ocrfleet.settings import Settings
from producer.batches import clean as clean_batches
from producer.uploads import clean as clean_uploads

log = structlog.get_logger()

INTERACTIVE_PREFIX = "interactive/"


def clean(config: Settings, database: Database, store: Blobs) -> None:
    """All of it. The failure of one is no matter of the others, whatever it is, and is tried again the next time."""
    steps = {
        "interactive": lambda: clean_interactive(store, config.bucket, datetime.now(UTC)),
        "uploads": lambda: clean_uploads(config, database, store, presign.connect(config)),
        "batches": lambda: clean_batches(config, database, store),
    }
    for name, step in steps.items():
        try:
            step()
        except FleetError as exc:
            log.warning("cleaning_failed", step=name, code=exc.code, error=exc.detail)
        except Exception:
            log.exception("cleaning_failed", step=name)


def clean_interactive(store: Blobs, bucket: str, now: datetime) -> int:
    """Remove synchronous inputs that are more than an hour old (their keys begin with the hour)."""
    newest = f"{INTERACTIVE_PREFIX}{now - timedelta(hours=2):%Y%m%d%H}0"
    removed = 0
    for info in store.scan(bucket, INTERACTIVE_PREFIX):
        if info.key >= newest:
            break
        store.remove(bucket, info.key)
        removed += 1
    return removed
