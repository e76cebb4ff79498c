"""What every format of an export is made with: the pages of an item, and a place to put what they become."""

import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import orjson
from sqlalchemy import Row

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import CallerError, FleetError, NeverError, StorageUnavailable, ValidationFailed
from ocrfleet.rights import Rights, impossible
from ocrfleet.s3 import BadName
from ocrfleet.settings import Settings
from ocrfleet.states import PageState
from ocrfleet.store import export_reads, exports, outcomes
from ocrfleet.store.export_reads import ExportItem
from ocrfleet.store.exports import Export

LEASE_SECONDS = 60.0
_RENEW_AFTER = 10.0
_PAGES_AT_ONCE = 100
"""Held in memory of one item, with their bodies."""
MANIFEST, SUCCESS, PART = "manifest.jsonl", "_SUCCESS", "part-"


class Unwritable(Exception):  # noqa: N818 (it carries an error, and never leaves the producer)
    """The bucket that the export goes to refuses it: no later try will do better."""

    def __init__(self, error: FleetError) -> None:
        super().__init__(error.detail)
        self.error = error


@dataclass(frozen=True, slots=True)
class Page:
    """A page and what it came to."""

    number: int
    """From 1; 0 stands for an item that could not be counted."""
    state: PageState
    code: str | None
    line: bytes
    """Its result or error line; empty while there is none."""

    @property
    def result(self) -> dict[str, Any]:
        """The members of its line; none without one."""
        return orjson.loads(self.line) if self.line else {}


@dataclass(frozen=True, slots=True)
class Written:
    """An object that an export has put."""

    key: str
    """Behind the export's prefix."""
    bytes: int
    sha256: str


class Work:
    """One chunk of an export under its lease: what a format may ask for. Safe for use by several threads."""

    def __init__(
        self, database: Database, blobs: Blobs, export: Export, rights: Rights, names: dict[int, int]
    ) -> None:
        self.export = export
        self.blobs = blobs
        self._rights = rights
        self._database = database
        self._names = names
        """By ordinal, the how-manieth of its name an item is, where it is not the first."""
        self._lock = threading.Lock()
        self._renewed = time.monotonic()

    def beat(self, *, now: bool = False) -> None:
        """Keep the lease, when it is time or `now`; LeaseLost if it is another's."""
        with self._lock:
            if now or time.monotonic() - self._renewed > _RENEW_AFTER:
                with self._database.statement() as session:
                    exports.renew(session, self.export, LEASE_SECONDS)
                self._renewed = time.monotonic()

    def pages(self, first: ExportItem, last: ExportItem | None = None) -> Iterator[tuple[int, Page]]:
        """Pages of an item, or of all up to `last`, each with its item's ordinal, read as they are consumed."""
        after, end = (first.ordinal, -1), (last or first).ordinal
        while True:
            self.beat()
            with self._database.statement() as session:
                rows = export_reads.pages(
                    session, self.export.job_id, after=after, last=end, limit=_PAGES_AT_ONCE
                )
            yield from ((row.ordinal, _page(row)) for row in rows)
            if len(rows) < _PAGES_AT_ONCE:
                return
            after = rows[-1].ordinal, rows[-1].number

    def check_readable(self, item: ExportItem) -> None:
        """Raise InputAccessDenied for an input that the tenant may not read, or no more."""
        self._rights.check_readable(item.bucket, item.key)

    def key(self, item: ExportItem, extension: str) -> str:
        """Where an item's output goes, behind the prefix.

        ValidationFailed for a key that no store could hold, InputAccessDenied for one that is another's.
        """
        time_of_name = self._names.get(item.ordinal, 1)
        # An input called as a file of ours gives way to it.
        taken = f"{item.name}{extension}" == MANIFEST
        name = f"{item.name}~{time_of_name}" if time_of_name > 1 or taken else item.name
        key = f"{name}{extension}"
        whole = f"{self.export.prefix}{key}"
        if fault := impossible(whole):
            raise ValidationFailed(fault)
        self._rights.check_writable(self.export.bucket, whole)
        return key

    def put(self, key: str, file: Path, media_type: str) -> Written:
        """Put a file behind the prefix, if the lease is still ours; Unwritable if the bucket refuses."""
        self.beat()
        put(self.blobs, self.export.bucket, f"{self.export.prefix}{key}", file, media_type)
        with file.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        return Written(key, file.stat().st_size, digest)


def put(blobs: Blobs, bucket: str, key: str, data: bytes | Path, media_type: str) -> None:
    """Put an object where the caller wants it; Unwritable if that can never be done."""
    try:
        blobs.put(bucket, key, data, media_type)
    except StorageUnavailable:
        raise
    except FleetError as exc:
        raise Unwritable(exc) from exc


def _page(row: Row[Any]) -> Page:
    line = b"" if row.seq is None else outcomes.line(row)
    return Page(row.number, PageState(row.page_state), row.code, line)


def manifest_line(
    item: ExportItem, written: Written | None, error: FleetError | None = None
) -> dict[str, Any]:
    """The manifest's line of an item; `output` is None where nothing could be written of it."""
    return {
        "ordinal": item.ordinal,
        "item_id": str(item.id),
        "custom_id": item.custom_id,
        "bucket": item.bucket,
        "key": item.key,
        "member": item.member,
        "output": written.key if written else None,
        "pages": item.pages,
        "state": item.state,
        "code": error.code if error else item.code,
        "bytes": written.bytes if written else None,
        "sha256": written.sha256 if written else None,
    }


class Format(Protocol):
    """One format; a module of this package has `make(settings, blobs)`, which builds it."""

    items_at_once: int
    """Of a chunk, after which the cursor moves."""
    pages_at_once: int

    def write(self, work: Work, items: Sequence[ExportItem], number: int) -> list[dict[str, Any]]:
        """Write a chunk, the how-manieth `number` says, from 0; returns its lines of the manifest.

        Raises FleetErrors that another try may not meet, Unwritable and LeaseLost.
        """
        ...

    def close(self) -> None: ...


Write = Callable[[Work, ExportItem, Iterator[Page], IO[bytes]], bool]
"""Writes one item's file from its pages; False where there is nothing to write."""


class FilePerItem:
    """A format with a file for each item, several of them at a time."""

    items_at_once = 200
    pages_at_once = 1000

    def __init__(self, write: Write, extension: str, media_type: str, threads: int) -> None:
        self._write = write
        self._extension = extension
        self._media_type = media_type
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="export")

    def write(self, work: Work, items: Sequence[ExportItem], number: int) -> list[dict[str, Any]]:
        del number
        begun = [self._threads.submit(self._try, work, item) for item in items]
        # Nothing goes on behind the back of one that failed: the lease is given back with it.
        _, pending = wait(begun, return_when=FIRST_EXCEPTION)
        if pending:
            for one in pending:
                one.cancel()
            wait(pending)
            raise next(error for one in begun if not one.cancelled() and (error := one.exception()))
        return [one.result() for one in begun]

    def _try(self, work: Work, item: ExportItem) -> dict[str, Any]:
        try:
            return manifest_line(item, self._written(work, item))
        except (CallerError, NeverError) as exc:
            return manifest_line(item, None, exc)
        except Unwritable as exc:
            if isinstance(exc.error, BadName):
                return manifest_line(item, None, exc.error)
            raise

    def _written(self, work: Work, item: ExportItem) -> Written | None:
        if not item.pages:
            return None
        with tempfile.NamedTemporaryFile(prefix="ocrfleet-export-") as file:
            pages = (page for _, page in work.pages(item))
            if not self._write(work, item, pages, file.file):
                return None
            file.flush()
            return work.put(work.key(item, self._extension), Path(file.name), self._media_type)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


Make = Callable[[Settings, Blobs], Format]
TEXT_THREADS = 8
"""Files of text written at a time: they wait for the store."""
