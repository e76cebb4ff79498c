"""Writing exports: a chunk of items at a time under a lease, then the manifest of all of them, at last `_SUCCESS`."""

import importlib
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import orjson
import structlog
from sqlalchemy.exc import DataError, SQLAlchemyError

from ocrfleet import failpoints
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import FleetError, InputAccessDenied, InputNotFound, Internal, JobStateConflict
from ocrfleet.rights import Rights
from ocrfleet.settings import Settings
from ocrfleet.states import ExportFormat
from ocrfleet.store import export_reads, exports
from ocrfleet.store import rights as store_rights
from ocrfleet.store.export_reads import ExportItem
from ocrfleet.store.exports import Export, LeaseLost
from producer.exports.base import LEASE_SECONDS, MANIFEST, PART, SUCCESS, Format, Make, Unwritable, Work, put
from producer.exports.manifest_parts import JSON_LINES, ManifestParts

log = structlog.get_logger()

AT_ONCE = 4
"""Exports that a producer writes at a time, each of another tenant."""
TURN_SECONDS = 5.0
"""After this long the next export has its turn."""
_RETRY_AFTER = 3.0
_MAX_FAULTS = 5


class Exporter:
    """Any number of producers may do so at once, and several threads of each."""

    def __init__(
        self, settings: Settings, database: Database, blobs: Blobs, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._seconds = lease_seconds
        self._parts = ManifestParts(settings, blobs)
        self._lock = threading.Lock()
        self._formats: dict[ExportFormat, Format] = {}
        self._faults: dict[str, int] = {}

    def step(self) -> bool:
        """Give one export its turn; False if none waits."""
        with self._database.statement() as session:
            leased = exports.lease(session, self._seconds)
        if leased is None:
            return False
        try:
            with self._kept(leased):
                self._turn(leased)
        except LeaseLost:
            log.info("export_lease_lost", export_id=str(leased.id))
        return True

    @contextmanager
    def _kept(self, export: Export) -> Generator[None]:
        """Renew the lease all the while: who must not go on without it asks by `_renew`."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self._seconds / 6):
                with suppress(SQLAlchemyError, LeaseLost):
                    self._renew(export)

        beating = threading.Thread(target=beat, name="export-lease", daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()

    def _turn(self, leased: Export) -> None:
        try:
            self._go_on(leased)
        except LeaseLost:
            raise
        except Unwritable as exc:
            self._fail(leased, exc.error)
        except JobStateConflict as exc:
            self._fail(leased, exc)
        except FleetError as exc:
            log.warning("export_postponed", export_id=str(leased.id), code=exc.code, error=exc.detail)
            self._release(leased, _RETRY_AFTER)
        except SQLAlchemyError as exc:
            # An outage is no fault of the export's; if the lease cannot be given back, it runs out.
            log.warning("export_postponed", export_id=str(leased.id), error=str(exc))
            if isinstance(exc, DataError):
                self._fault(leased, exc)
        except Exception as exc:
            log.exception("export_fault", export_id=str(leased.id))
            self._fault(leased, exc)

    def _go_on(self, export: Export) -> None:
        until = time.monotonic() + TURN_SECONDS
        if export.deleted:
            self._parts.remove(export.id)
            with self._database.transaction() as session:
                exports.cancel(session, export)
            return
        with self._database.statement() as session:
            rights = store_rights.of_job(session, export.job_id, self._settings.bucket)
        _check_own(export, rights)
        if not export.cursor:
            export = self._begin(export)
        if not export.cursor.get("written"):
            # Of a chunk that came to no end: a job that still runs may have other items there now.
            self._parts.remove(export.id, export.cursor["after"])
        while not export.cursor.get("written"):
            export = self._chunk(export, rights)
            failpoints.reach("export.chunk")
            self._faults.pop(str(export.id), None)
            if time.monotonic() >= until:
                self._release(export, 0.0)
                return
        if not export.cursor.get("joined"):
            export = self._join(export)
        # Only now: a crash before would have left a manifest without them.
        self._parts.remove(export.id)
        with self._database.transaction() as session:
            exports.finish(session, export)
        self._faults.pop(str(export.id), None)

    def _begin(self, export: Export) -> Export:
        """Take away what an earlier export left as its sign of success, and fix which items there are."""
        with self._database.statement() as session:
            generation = exports.generation(session, export)
        self._renew(export)
        try:
            self._blobs.remove(export.bucket, f"{export.prefix}{SUCCESS}")
        except InputNotFound as exc:
            raise Unwritable(exc) from exc
        with self._database.transaction() as session:
            last = export_reads.extent(session, export.job_id)
            repeated = export_reads.note_names(session, export.id, export.job_id, last)
            cursor = {"after": -1, "last": last, "repeated": repeated, "number": 0, "generation": generation}
            return exports.advance(session, export, cursor, seconds=self._seconds)

    def _chunk(self, export: Export, rights: Rights) -> Export:
        """Write the next items, and the cursor behind them; that all are written if there are no more.

        JobStateConflict if not all that was read before is of the job as it was.
        """
        cursor, chosen = export.cursor, self._format(export.format)
        with self._database.statement() as session:
            exports.generation(session, export)
        with self._database.statement() as session:
            found = export_reads.items(
                session, export.job_id, after=cursor["after"], last=cursor["last"], limit=chosen.items_at_once
            )
        if not found:
            return self._advance(export, {**cursor, "written": True})
        items = list(_within(found, chosen.pages_at_once))
        names: dict[int, int] = {}
        if cursor["repeated"]:
            with self._database.statement() as session:
                names = export_reads.occurrences(session, export.id, items[0].ordinal, items[-1].ordinal)
        lines = chosen.write(
            Work(self._database, self._blobs, export, rights, names), items, cursor["number"]
        )
        self._parts.put(export.id, lines)
        after = {**cursor, "after": items[-1].ordinal, "number": cursor["number"] + 1}
        size = {line["output"]: line["bytes"] for line in lines if line["output"] is not None}
        failed = sum(line["output"] is None for line in lines)
        return self._advance(export, after, items=len(items), failed=failed, size=sum(size.values()))

    def _join(self, export: Export) -> Export:
        """Put the manifest of all chunks, then the sign that nothing is missing; a fault of ours if its lines are not all."""
        with tempfile.NamedTemporaryFile(prefix="ocrfleet-export-") as file:
            lines = 0
            for line in self._parts.lines(export.id):
                file.write(line)
                lines += 1
            if lines != export.items:
                msg = f"the manifest has {lines} lines of {export.items} items"
                raise RuntimeError(msg)
            file.flush()
            self._renew(export)
            put(self._blobs, export.bucket, f"{export.prefix}{MANIFEST}", Path(file.name), JSON_LINES)
        told = {
            "export_id": str(export.id),
            "job_id": str(export.job_id),
            "format": export.format,
            "items": export.items,
            "failed": export.failed,
            "bytes": export.bytes,
        }
        self._renew(export)
        put(self._blobs, export.bucket, f"{export.prefix}{SUCCESS}", orjson.dumps(told), "application/json")
        return self._advance(export, {**export.cursor, "joined": True})

    def _format(self, name: ExportFormat) -> Format:
        """Loaded when it is first asked for: some bring large libraries."""
        with self._lock:
            if name not in self._formats:
                make = cast("Make", importlib.import_module(f"producer.exports.{name}").make)
                self._formats[name] = make(self._settings, self._blobs)
            return self._formats[name]

    def _renew(self, export: Export) -> None:
        with self._database.statement() as session:
            exports.renew(session, export, self._seconds)

    def _advance(self, export: Export, cursor: dict[str, Any], **counts: int) -> Export:
        with self._database.transaction() as session:
            return exports.advance(session, export, cursor, seconds=self._seconds, **counts)

    def _release(self, export: Export, after: float) -> None:
        with self._database.transaction() as session:
            exports.release(session, export, after)

    def _fail(self, export: Export, error: FleetError) -> None:
        log.warning("export_failed", export_id=str(export.id), code=error.code, error=error.detail)
        self._faults.pop(str(export.id), None)
        with self._database.transaction() as session:
            exports.finish(session, export, error)
        self._parts.remove(export.id)

    def _fault(self, export: Export, exc: Exception) -> None:
        """Our own fault: tried again a few times before the export fails with `internal`."""
        key = str(export.id)
        self._faults[key] = self._faults.get(key, 0) + 1
        if self._faults[key] < _MAX_FAULTS:
            self._release(export, _RETRY_AFTER)
        else:
            self._fail(export, Internal(f"the export failed {_MAX_FAULTS} times: {exc!r}"))

    def close(self) -> None:
        self._parts.close()
        for chosen in self._formats.values():
            chosen.close()


def _check_own(export: Export, rights: Rights) -> None:
    """Unwritable where what an export writes of its own may not lie: its items are asked about one by one."""
    try:
        for name in (MANIFEST, SUCCESS, PART):
            rights.check_writable(export.bucket, f"{export.prefix}{name}")
    except InputAccessDenied as exc:
        raise Unwritable(exc) from exc


def _within(items: Sequence[ExportItem], pages: int) -> Iterator[ExportItem]:
    """The first of the items, as many as have so many pages together; one at least."""
    for n, item in enumerate(items):
        pages -= item.pages
        if n and pages < 0:
            return
        yield item
