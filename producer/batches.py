"""Batches of the OpenAI-shaped façade: their file is read and becomes jobs; when those have ended, files are written."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from uuid import UUID

import structlog
from sqlalchemy.exc import DataError, SQLAlchemyError

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import CallerError, FleetError, InputNotFound
from ocrfleet.settings import Settings
from ocrfleet.states import BatchStatus
from ocrfleet.store import batches
from producer.batch_reading import Reading
from producer.batch_turn import (
    LEASE_SECONDS,
    RENEW_EVERY,
    WRITTEN,
    Held,
    LeaseLost,
    fault,
    images_of,
    own_prefix,
)
from producer.batch_writing import Writing

log = structlog.get_logger()

_RETRY_AFTER = 5.0
_MAX_FAULTS = 5
_AT_ONCE = 8


class Batcher:
    """Any number of producers may do so at once."""

    def __init__(
        self, settings: Settings, database: Database, blobs: Blobs, *, renew_every: float = RENEW_EVERY
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._renew_every = renew_every
        self._faults = Counter[str]()

    def step(self) -> bool:
        """Give one batch its turn; False if there is nothing to do for any."""
        with self._database.statement() as session:
            turn = batches.lease(session, LEASE_SECONDS)
        if turn is None:
            return False
        kind = Reading if turn.status is BatchStatus.VALIDATING else Writing
        held = kind(self._settings, self._database, self._blobs, turn, self._renew_every)
        try:
            held.run()
            self._faults.pop(turn.id, None)
        except LeaseLost:
            log.info("batch_lease_lost", batch_id=turn.id)
        except CallerError as exc:
            # What its files lie in is gone, or refuses us, and will the next time too.
            log.warning("batch_failed", batch_id=turn.id, code=exc.code, error=exc.detail)
            held.fail(fault(exc.code, exc.detail))
        except FleetError as exc:
            log.warning("batch_postponed", batch_id=turn.id, code=exc.code, error=exc.detail)
            held.postpone(_RETRY_AFTER)
        except SQLAlchemyError as exc:
            # An outage is no fault of the batch's; its lease runs out.
            log.warning("batch_postponed", batch_id=turn.id, error=str(exc))
            if isinstance(exc, DataError):
                self._fault(held, exc)
        except Exception as exc:
            log.exception("batch_fault", batch_id=turn.id)
            self._fault(held, exc)
        return True

    def _fault(self, held: Held, exc: Exception) -> None:
        """Our own fault: tried again a few times before the batch fails with `internal`."""
        batch_id = held.turn.id
        self._faults[batch_id] += 1
        if self._faults[batch_id] < _MAX_FAULTS:
            held.postpone(_RETRY_AFTER)
        else:
            self._faults.pop(batch_id)
            held.fail(fault("internal", f"The batch failed {_MAX_FAULTS} times: {exc!r}"))


def remove_images(config: Settings, database: Database, blobs: Blobs, most: int = 10_000) -> int:
    """Remove images and manifests of batches that nobody redrives any more, up to `most` of each; how many batches.

    Any number of producers may do so at once. StorageUnavailable: the store does not answer, and the rest waits.
    """
    with database.transaction() as session:
        due = batches.done_with(session, config.batch_image_days * 86400)
    with ThreadPoolExecutor(_AT_ONCE, "images") as threads:
        for batch_id, tenant_id in due:
            try:
                keys = list(islice(_needless(blobs, config.bucket, tenant_id, batch_id), most))
                removed = list(threads.map(partial(blobs.remove, config.bucket), keys))
            except InputNotFound:
                # The bucket is gone.
                removed = []
            if len(removed) < most:
                with database.transaction() as session:
                    batches.cleared(session, batch_id)
    return len(due)


def _needless(blobs: Blobs, bucket: str, tenant_id: UUID, batch_id: str) -> Iterator[str]:
    """Keys of what is left of a batch beside the files that its callers read."""
    for info in blobs.scan(bucket, images_of(tenant_id, batch_id)):
        yield info.key
    for info in blobs.scan(bucket, own_prefix(batch_id)):
        if not info.key.endswith(WRITTEN):
            yield info.key


def clean(config: Settings, database: Database, blobs: Blobs) -> None:
    """`remove_images`, whose failure is no matter of those who clean other things."""
    try:
        if gone := remove_images(config, database, blobs):
            log.info("batch_images_removed", batches=gone)
    except FleetError as exc:
        log.warning("batch_images_not_removed", code=exc.code, error=exc.detail)
