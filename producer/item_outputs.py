"""Outputs per item: when the last page of an item has ended, its results are written to a bucket as one JSON object."""

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from typing import Any

import orjson
import structlog

from ocrfleet import failpoints
from ocrfleet.blobs import Blobs
from ocrfleet.bucket_records import MAX_KEY
from ocrfleet.db import Database
from ocrfleet.errors import CallerError, FleetError
from ocrfleet.settings import Settings
from ocrfleet.store import item_outputs
from ocrfleet.store.item_outputs import EndedItem, OutputJob

log = structlog.get_logger()

LEASE_SECONDS = 120.0
RETRY_AFTER = 3.0
REFUSED_AFTER = 30.0
"""Somebody has to repair something before the bucket takes it."""
_RESULTS = 500
_LINES = 200
_AT_ONCE = 8
_MEDIA_TYPE = "application/json"


class ItemWriter:
    """Any number of producers may do so at once, each with a job of its own."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        del settings
        self._database = database
        self._blobs = blobs
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="output")

    def step(self) -> bool:
        """See to the next results of one job; False if no job has any."""
        with self._database.statement() as session:
            job = item_outputs.lease(session, LEASE_SECONDS)
        if job is None:
            with self._database.statement() as session:
                item_outputs.settle_ended(session)
            return False
        try:
            self._write(job)
        except CallerError as exc:
            log.warning("output_refused", job_id=str(job.id), code=exc.code, error=exc.detail)
            self._release(job, REFUSED_AFTER, {"code": exc.code, "detail": exc.detail})
        except FleetError as exc:
            log.warning("output_postponed", job_id=str(job.id), code=exc.code, error=exc.detail)
            self._release(job, RETRY_AFTER, {"code": exc.code, "detail": exc.detail})
        return True

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _write(self, job: OutputJob) -> None:
        with self._database.transaction() as session:
            last, items = item_outputs.chunk(session, job, _RESULTS)
        named = [(item, output_key(job.output, item)) for item in items]
        possible = [(item, key) for item, key in named if len(key.encode()) <= MAX_KEY]
        writing = [self._threads.submit(self._put, job, item, key) for item, key in possible]
        try:
            for one in as_completed(writing):
                one.result()
        finally:
            # After a fault no other is begun, and none is still being written when the lease is given back.
            for one in writing:
                one.cancel()
            wait(writing)
        failpoints.reach("outputs.written")
        error = _too_long([key for _, key in named if len(key.encode()) > MAX_KEY])
        with self._database.transaction() as session:
            item_outputs.advance(session, job, last, error)

    def _put(self, job: OutputJob, item: EndedItem, key: str) -> None:
        """Write one item; its lines go through a file, since a document may have ten thousand pages."""
        bucket = job.output.get("bucket") or item.bucket
        with tempfile.TemporaryDirectory(prefix="ocrfleet-output-") as folder:
            path = Path(folder) / "item.json"
            with path.open("wb") as file:
                file.write(orjson.dumps(head(job, item))[:-1] + b',"pages":[')
                after, first = -1, True
                while lines := self._lines(item, after):
                    for number, line in lines:
                        file.write((b"" if first else b",") + b"\n" + line.rstrip(b"\n"))
                        after, first = number, False
                file.write(b"\n]}\n")
            self._blobs.put(bucket, key, path, _MEDIA_TYPE)

    def _lines(self, item: EndedItem, after: int) -> Sequence[tuple[int, bytes]]:
        with self._database.transaction() as session:
            return list(item_outputs.lines(session, item.id, after, _LINES))

    def _release(self, job: OutputJob, after: float, error: Mapping[str, Any]) -> None:
        with self._database.transaction() as session:
            item_outputs.release(session, job, after, error)


def output_key(output: Mapping[str, Any], item: EndedItem) -> str:
    """Where an item's results are written: beside its key's name, below the prefix."""
    name = f"{item.key}/{item.member}" if item.member else item.key
    return f"{output.get('prefix', 'results/')}{name}.json"


def head(job: OutputJob, item: EndedItem) -> dict[str, Any]:
    """What an output says before its pages; `member` only where the object is an archive."""
    members = {
        "job_id": str(job.id),
        "item_id": str(item.id),
        "custom_id": item.custom_id,
        "bucket": item.bucket,
        "key": item.key,
        "etag": item.etag,
    }
    return members | ({"member": item.member} if item.member else {})


def _too_long(keys: Sequence[str]) -> dict[str, Any] | None:
    if not keys:
        return None
    log.warning("output_key_too_long", keys=len(keys), key=keys[0])
    detail = f"{len(keys)} outputs would have keys of more than {MAX_KEY} bytes, the first: {keys[0]}"
    return {"code": "validation_failed", "detail": detail}
