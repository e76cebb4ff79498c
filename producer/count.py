"""Counting: how many pages an item has, found in a sandbox, never in this process."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.documents import COUNTED, HEAD_BYTES, Limits, parse_pages, sniff
from ocrfleet.errors import FleetError, Internal, StorageUnavailable
from ocrfleet.sandbox import Sandbox
from ocrfleet.settings import Settings
from ocrfleet.store import expansion
from ocrfleet.store.expansion import CountedItem, PendingItem

log = structlog.get_logger()

LEASE_SECONDS = 120.0
POSTPONE_SECONDS = 5.0
_AT_ONCE = 32


class Counter:
    """Counts leased items with a few sandboxed processes; any number of producers may do so at once."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self._max_bytes = settings.max_object_bytes
        self._sandbox = Sandbox(settings.decode_processes, Limits.of(settings))
        self._threads = ThreadPoolExecutor(settings.decode_processes, thread_name_prefix="count")

    def step(self) -> int:
        """Lease some items, count them, write their pages; returns how many were leased."""
        with self._database.transaction() as session:
            leased = expansion.lease_items(session, _AT_ONCE, LEASE_SECONDS)
        found: list[CountedItem] = []
        later: list[int] = []
        for item, counted in zip(leased, self._threads.map(self._try, leased), strict=True):
            if counted is None:
                later.append(item.id)
            else:
                found.append(counted)
        self._write(found, later)
        return len(leased)

    def _write(self, found: Sequence[CountedItem], later: Sequence[int]) -> None:
        with self._database.transaction() as session:
            if found:
                expansion.counted(session, found)
            if later:
                expansion.postpone(session, later, POSTPONE_SECONDS)

    def _try(self, item: PendingItem) -> CountedItem | None:
        """None: the store did not answer, try again later."""
        try:
            return self._count(item)
        except StorageUnavailable as exc:
            log.warning("count_postponed", bucket=item.bucket, key=item.key, error=exc.detail)
            return None
        except FleetError as exc:
            return CountedItem(item, error=exc)
        except Exception as exc:
            log.exception("count_failed", bucket=item.bucket, key=item.key)
            return CountedItem(item, error=Internal(f"counting failed: {exc!r}"))

    def _count(self, item: PendingItem) -> CountedItem:
        fetched = self._blobs.fetch(
            item.bucket, item.key, max_bytes=self._max_bytes, etag=item.etag, version_id=item.version_id
        )
        pages = 1
        if sniff(fetched.data[:HEAD_BYTES]) in COUNTED:
            with tempfile.NamedTemporaryFile(prefix="ocrfleet-count-") as file:
                file.write(fetched.data)
                file.flush()
                pages = self._sandbox.count(Path(file.name), item.options.get("password")).pages
        wanted = item.options.get("pages")
        numbers = parse_pages(wanted, pages) if wanted else range(1, pages + 1)
        return CountedItem(item, pages, numbers, fetched.info.etag, fetched.info.version_id)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._sandbox.close()
