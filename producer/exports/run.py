"""Writing exports: a chunk of items at a time under a lease, then the manifest of all of them, at last `_SUCCESS`."""

import importlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import orjson
import structlog
from sqlalchemy.exc import DataError, SQLAlchemyError

from ocrfleet import failpoints
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import FleetError, InputNotFound, Internal
from ocrfleet.settings import Settings
from ocrfleet.states import ExportFormat
from ocrfleet.store import export_reads, exports
from ocrfleet.store.export_reads import ExportItem
from ocrfleet.store.exports import Export, LeaseLost
from producer.exports.base import LEASE_SECONDS, MANIFEST, SUCCESS, Format, Make, Unwritable, Work, put

log = structlog.get_logger()

TURN_SECONDS = 5.0
"""After this long the next export has its turn."""
PARTS = "exporting/"
"""In our own bucket: the manifest of each chunk, until they are joined."""
_RETRY_AFTER = 3.0
_MAX_FAULTS = 5
_JSON_LINES = "application/x-ndjson"


class Exporter:
    """Any number of producers may do so at once, each with one export at a time."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self._settings = settings
        self._database = database
        self._blobs = blobs
        self._formats: dict[ExportFormat, Format] = {}
        self._faults: dict[str, int] = {}

    def step(self) -> bool:
        """Give one export its turn; False if none waits."""
        with self._database.statement() as session:
            leased = exports.lease(session, LEASE_SECONDS)
        if leased is None:
            return False
        try:
            self._go_on(leased)
        except LeaseLost:
            log.info("export_lease_lost", export_id=str(leased.id))
        except Unwritable as exc:
            self._fail(leased, exc.error)
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
        return True

    def _go_on(self, export: Export) -> None:
        until = time.monotonic() + TURN_SECONDS
        if export.deleted:
            self._remove_parts(export)
            with self._database.transaction() as session:
                exports.cancel(session, export.id)
            return
        if not export.cursor:
            export = self._begin(export)
        while not export.cursor.get("joined"):
            following = self._chunk(export)
            export = following or self._join(export)
            failpoints.reach("export.chunk")
            self._faults.pop(str(export.id), None)
            if following and time.monotonic() >= until:
                self._release(export, 0.0)
                return
        # Only now: a crash before would have left a manifest without them.
        self._remove_parts(export)
        with self._database.transaction() as session:
            exports.finish(session, export.id)

    def _begin(self, export: Export) -> Export:
        """Take away what an earlier export left as its sign of success, and fix which items there are."""
        try:
            self._blobs.remove(export.bucket, f"{export.prefix}{SUCCESS}")
        except InputNotFound as exc:
            raise Unwritable(exc) from exc
        with self._database.statement() as session:
            last, repeated = export_reads.extent(session, export.job_id)
        cursor = {"after": -1, "last": last, "repeated": repeated, "number": 0}
        return self._advance(export, cursor)

    def _chunk(self, export: Export) -> Export | None:
        """Write the next items, and the cursor behind them; None if there are no more."""
        cursor, chosen = export.cursor, self._format(export.format)
        with self._database.statement() as session:
            found = export_reads.items(
                session, export.job_id, after=cursor["after"], last=cursor["last"], limit=chosen.items_at_once
            )
        if not found:
            return None
        items = list(_within(found, chosen.pages_at_once))
        names: dict[int, int] = {}
        if cursor["repeated"]:
            with self._database.statement() as session:
                names = export_reads.occurrences(session, export.job_id, items)
        lines = chosen.write(Work(self._database, self._blobs, export, names), items, cursor["number"])
        # By its items: of two producers that wrote the same chunk, neither hides what the other has.
        name = f"{_folder(export)}{items[0].ordinal:012}-{items[-1].ordinal:012}.jsonl"
        data = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
        self._blobs.put(self._settings.bucket, name, data, _JSON_LINES)
        after = {**cursor, "after": items[-1].ordinal, "number": cursor["number"] + 1}
        size = {line["output"]: line["bytes"] for line in lines if line["output"] is not None}
        failed = sum(line["output"] is None for line in lines)
        return self._advance(export, after, items=len(items), failed=failed, size=sum(size.values()))

    def _join(self, export: Export) -> Export:
        """Put the manifest of all chunks, then the sign that nothing is missing."""
        with tempfile.NamedTemporaryFile(prefix="ocrfleet-export-") as file:
            last = -1
            for line in self._lines(export):
                if (ordinal := orjson.loads(line)["ordinal"]) > last:
                    file.write(line + b"\n")
                    last = ordinal
            file.flush()
            put(self._blobs, export.bucket, f"{export.prefix}{MANIFEST}", Path(file.name), _JSON_LINES)
        told = {
            "export_id": str(export.id),
            "job_id": str(export.job_id),
            "format": export.format,
            "items": export.items,
            "failed": export.failed,
            "bytes": export.bytes,
        }
        put(self._blobs, export.bucket, f"{export.prefix}{SUCCESS}", orjson.dumps(told), "application/json")
        return self._advance(export, {**export.cursor, "joined": True})

    def _lines(self, export: Export) -> Iterator[bytes]:
        for info in self._blobs.scan(self._settings.bucket, _folder(export)):
            data = self._blobs.fetch(info.bucket, info.key, max_bytes=self._settings.max_object_bytes).data
            yield from data.splitlines()

    def _remove_parts(self, export: Export) -> None:
        for info in self._blobs.scan(self._settings.bucket, _folder(export)):
            self._blobs.remove(info.bucket, info.key)

    def _format(self, name: ExportFormat) -> Format:
        """Loaded when it is first asked for: some bring large libraries."""
        if name not in self._formats:
            make = cast("Make", importlib.import_module(f"producer.exports.{name}").make)
            self._formats[name] = make(self._settings, self._blobs)
        return self._formats[name]

    def _advance(self, export: Export, cursor: dict[str, Any], **counts: int) -> Export:
        with self._database.transaction() as session:
            return exports.advance(session, export, cursor, seconds=LEASE_SECONDS, **counts)

    def _release(self, export: Export, after: float) -> None:
        with self._database.transaction() as session:
            exports.release(session, export.id, after)

    def _fail(self, export: Export, error: FleetError) -> None:
        log.warning("export_failed", export_id=str(export.id), code=error.code, error=error.detail)
        self._faults.pop(str(export.id), None)
        with self._database.transaction() as session:
            exports.finish(session, export.id, error)
        self._remove_parts(export)

    def _fault(self, export: Export, exc: Exception) -> None:
        """Our own fault: tried again a few times before the export fails with `internal`."""
        key = str(export.id)
        self._faults[key] = self._faults.get(key, 0) + 1
        if self._faults[key] < _MAX_FAULTS:
            self._release(export, _RETRY_AFTER)
        else:
            self._fail(export, Internal(f"the export failed {_MAX_FAULTS} times: {exc!r}"))

    def close(self) -> None:
        for chosen in self._formats.values():
            chosen.close()


def _folder(export: Export) -> str:
    return f"{PARTS}{export.id}/"


def _within(items: Sequence[ExportItem], pages: int) -> Iterator[ExportItem]:
    """The first of the items, as many as have so many pages together; one at least."""
    for n, item in enumerate(items):
        pages -= item.pages
        if n and pages < 0:
            return
        yield item
