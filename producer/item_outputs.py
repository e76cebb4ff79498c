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
from ocrfleet.db import Database
from ocrfleet.errors import CallerError, FleetError, ValidationFailed
from ocrfleet.rights import Rights, impossible
from ocrfleet.settings import Settings
from ocrfleet.store import item_outputs, jobs, rights
from ocrfleet.store.item_outputs import EndedItem, OutputJob

log = structlog.get_logger()

LEASE_SECONDS = 120.0
RETRY_AFTER = 3.0
_RESULTS = 500
_LINES = 200
_AT_ONCE = 8
_MEDIA_TYPE = "application/json"


class ItemWriter:
    """Any number of producers may do so at once, each with a job of its own."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self._bucket = settings.bucket
        self._database = database
        self._blobs = blobs
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="output")
        self._failed: OutputJob | None = None

    def step(self) -> bool:
        """See to the next results of one job; False if no job has any."""
        if self._failed:
            # Here, since what has failed may have been the database.
            self._release(self._failed, RETRY_AFTER)
            self._failed = None
        with self._database.statement() as session:
            job = item_outputs.lease(session, LEASE_SECONDS)
        if job is None:
            with self._database.statement() as session:
                item_outputs.settle_ended(session)
            return False
        try:
            self._write(job)
        except FleetError as exc:
            log.warning("output_postponed", job_id=str(job.id), code=exc.code, error=exc.detail)
            self._release(job, RETRY_AFTER, {"code": exc.code, "detail": exc.detail})
        except Exception:
            log.exception("output_fault", job_id=str(job.id))
            self._failed = job
        return True

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _write(self, job: OutputJob) -> None:
        last, refused = job.seq, list[FleetError]()
        if job.rest:
            refused = self._rest(job)
        else:
            with self._database.transaction() as session:
                held = rights.of_job(session, job.id, self._bucket)
                last, items = item_outputs.chunk(session, job, _RESULTS)
            refused = self._items(job, items, held)
        failpoints.reach("outputs.written")
        with self._database.transaction() as session:
            item_outputs.advance(session, job, last, _told(job, refused))

    def _rest(self, job: OutputJob) -> list[FleetError]:
        """At the job's end, write the items of which a page was canceled."""
        after, refused = -1, list[FleetError]()
        while True:
            with self._database.transaction() as session:
                item_outputs.release(session, job, LEASE_SECONDS)
                held = rights.of_job(session, job.id, self._bucket)
                after, items = item_outputs.rest(session, job, after, _RESULTS)
            if not items:
                return refused
            refused += self._items(job, items, held)

    def _items(self, job: OutputJob, items: Sequence[EndedItem], held: Rights) -> list[FleetError]:
        """Write items, some at once; returns why some can never be written."""
        writing = [self._threads.submit(self._try, job, item, held) for item in items]
        try:
            return [error for one in as_completed(writing) if (error := one.result())]
        finally:
            # After a fault no other is begun, and none is still being written when the lease is given back.
            for one in writing:
                one.cancel()
            wait(writing)

    def _try(self, job: OutputJob, item: EndedItem, held: Rights) -> FleetError | None:
        """Write one item; what refuses it is returned, and no reason to wait with the others."""
        bucket, key = job.output.get("bucket") or item.bucket, output_key(job.output, item)
        if fault := impossible(key):
            return ValidationFailed(fault)
        if not held.may_write(bucket, key):
            return held.refusal(bucket, key)
        try:
            self._put(job, item, bucket, key)
        except CallerError as exc:
            return exc
        return None

    def _put(self, job: OutputJob, item: EndedItem, bucket: str, key: str) -> None:
        """Write one item; its lines go through a file, since a document may have ten thousand pages."""
        with tempfile.TemporaryDirectory(prefix="ocrfleet-output-") as folder:
            path = Path(folder) / "item.json"
            with path.open("wb") as file:
                file.write(orjson.dumps(head(job, item))[:-1] + b',"pages":[')
                after, written = -1, 0
                while lines := self._lines(item, after):
                    for number, line in lines:
                        file.write((b"," if written else b"") + b"\n" + line.rstrip(b"\n"))
                        after, written = number, written + 1
                file.write(b"\n]}\n")
            # A job that is deleted takes its results away, a redrive some: what they have left is no output.
            if written >= item.lines and self._is_there(job):
                self._blobs.put(bucket, key, path, _MEDIA_TYPE)

    def _is_there(self, job: OutputJob) -> bool:
        with self._database.statement() as session:
            return jobs.is_there(session, job.id)

    def _lines(self, item: EndedItem, after: int) -> Sequence[tuple[int, bytes]]:
        with self._database.transaction() as session:
            return list(item_outputs.lines(session, item.id, after, _LINES))

    def _release(self, job: OutputJob, after: float, error: Mapping[str, Any] | None = None) -> None:
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


def _told(job: OutputJob, refused: Sequence[FleetError]) -> dict[str, Any] | None:
    """What the job says of items that can never be written."""
    if not refused:
        return None
    first = refused[0]
    log.warning(
        "outputs_impossible", job_id=str(job.id), items=len(refused), code=first.code, error=first.detail
    )
    detail = f"Outputs cannot be written, the first: {first.detail}"
    return {"code": first.code, "detail": detail, "items": len(refused)}
