"""Expansion: reads a job's input outside any transaction and writes it in chunks under a moving cursor."""

import math
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing

import structlog
from sqlalchemy.exc import DataError, SQLAlchemyError

from ocrfleet import failpoints
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import CallerError, FleetError, Internal, NeverError
from ocrfleet.inputs import Chunk, check, permitted, read
from ocrfleet.settings import Settings
from ocrfleet.store import control, expansion
from ocrfleet.store import rights as store_rights
from ocrfleet.store.expansion import Expansion, LeaseLost
from producer.existing import Existing

log = structlog.get_logger()

LEASE_SECONDS = 30.0
TURN_SECONDS = 2.0
"""After this long the next job has its turn, so that a million lines do not hold up ten.

It begins with the first chunk that is new, and takes as long as skipping to that did: else a gzip'd manifest of
gigabytes would be inflated from its beginning for each few lines.
"""
_RETRY_AFTER = 3.0
_MAX_FAULTS = 5


class Expander:
    """Expands leased jobs; any number of producers may do so at once."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self._chunk = settings.expand_chunk
        self._bucket = settings.bucket
        self._database = database
        self._blobs = blobs
        self._faults: dict[str, int] = {}
        self._reader = ThreadPoolExecutor(1, "read")
        self._existing = Existing(blobs)

    def step(self) -> bool:
        """Give one job its turn; False if none waits for expansion."""
        with self._database.statement() as session:
            leased = expansion.lease(session, LEASE_SECONDS)
        if leased is None:
            return False
        try:
            self._expand(leased)
        except LeaseLost:
            log.info("expansion_lease_lost", job_id=str(leased.job_id))
        except (CallerError, NeverError) as exc:
            self._fail(leased, exc)
        except FleetError as exc:
            log.warning("expansion_postponed", job_id=str(leased.job_id), code=exc.code, error=exc.detail)
            self._release(leased, _RETRY_AFTER)
        except DataError as exc:
            # It will be refused again.
            log.exception("expansion_fault", job_id=str(leased.job_id))
            self._fault(leased, exc)
        except SQLAlchemyError as exc:
            # An outage is no fault of the job's; if the lease cannot be given back, it runs out.
            log.warning("expansion_postponed", job_id=str(leased.job_id), error=str(exc))
        except Exception as exc:
            # One job's fault must not stop the others' expansion.
            log.exception("expansion_fault", job_id=str(leased.job_id))
            self._fault(leased, exc)
        return True

    def _expand(self, leased: Expansion) -> None:
        began, until = time.monotonic(), math.inf
        # Asked again: they may be others than when the job was submitted.
        with self._database.statement() as session:
            rights = store_rights.of_job(session, leased.job_id, self._bucket)
        check(leased.input, rights, ours=True)
        with closing(self._ahead(read(self._blobs, leased, self._chunk))) as chunks:
            for chunk in chunks:
                if (moved := chunk.cursor != leased.cursor) and until == math.inf:
                    until = (now := time.monotonic()) + max(TURN_SECONDS, now - began)
                items = self._existing.sift(leased.output, permitted(chunk.items, leased, rights), rights)
                with self._database.transaction() as session:
                    leased = expansion.write(
                        session, leased, chunk.cursor, items, listed=chunk.last, seconds=LEASE_SECONDS
                    )
                failpoints.reach("expand.chunk")
                if moved:
                    self._faults.pop(str(leased.job_id), None)
                if not chunk.last and time.monotonic() >= until:
                    self._release(leased, 0.0)
                    return

    def _ahead(self, chunks: Generator[Chunk]) -> Generator[Chunk]:
        """The same chunks, each read and parsed while the one before is written."""
        coming = self._reader.submit(next, chunks, None)
        try:
            while (chunk := coming.result()) is not None:
                coming = self._reader.submit(next, chunks, None)
                yield chunk
        finally:
            # The stream cannot be closed under its reader.
            wait([coming])
            chunks.close()

    def close(self) -> None:
        self._reader.shutdown()
        self._existing.close()

    def _release(self, leased: Expansion, after: float) -> None:
        with self._database.transaction() as session:
            expansion.release(session, leased.job_id, after)

    def _fail(self, leased: Expansion, error: FleetError) -> None:
        log.warning("expansion_failed", job_id=str(leased.job_id), code=error.code, error=error.detail)
        with self._database.transaction() as session:
            control.fail(session, leased.job_id, error)

    def _fault(self, leased: Expansion, exc: Exception) -> None:
        """Our own fault: tried again a few times before the job fails with `internal`."""
        job = str(leased.job_id)
        self._faults[job] = self._faults.get(job, 0) + 1
        if self._faults[job] < _MAX_FAULTS:
            self._release(leased, _RETRY_AFTER)
        else:
            self._fail(leased, Internal(f"the expansion failed {_MAX_FAULTS} times: {exc!r}"))
