"""Counting: how many pages an item has, found in a sandbox, never in this process."""

import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
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

LEASE_SECONDS = 45.0
POSTPONE_SECONDS = 5.0
_AT_ONCE = 32


class Counter:
    """Counts leased items with a few sandboxed processes; any number of producers may do so at once."""

    def __init__(self, settings: Settings, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs
        self._max_bytes = settings.max_object_bytes
        self._sandbox = Sandbox(settings.decode_processes, Limits.of(settings))
        self._faulty: set[int] = set()
        self._threads = ThreadPoolExecutor(settings.decode_processes, thread_name_prefix="count")

    def step(self) -> int:
        """Lease some items, count them, write the pages of each as it is done; returns how many were leased."""
        with self._database.statement() as session:
            leased = expansion.lease_items(session, _AT_ONCE, LEASE_SECONDS)
        counting = {self._threads.submit(self._try, item): item for item in leased}
        for done in as_completed(counting):
            found = done.result()
            with self._database.transaction() as session:
                if found is None:
                    expansion.postpone(session, [counting[done].id], POSTPONE_SECONDS)
                else:
                    expansion.counted(session, [found])
        return len(leased)

    def _try(self, item: PendingItem) -> CountedItem | None:
        """None: try again later. An outage is no fault of the item's; a fault of ours may be, the second time."""
        try:
            found = self._count(item)
        except (StorageUnavailable, OSError) as exc:
            # An OSError is this machine's: its disk is full, it has no further process.
            log.warning("count_postponed", bucket=item.bucket, key=item.key, error=str(exc))
            return None
        except FleetError as exc:
            found = CountedItem(item, error=exc)
        except Exception as exc:
            log.exception("count_failed", bucket=item.bucket, key=item.key)
            found = CountedItem(item, error=Internal(f"counting failed: {exc!r}"))
        if isinstance(found.error, Internal) and item.id not in self._faulty:
            self._faulty.add(item.id)
            return None
        self._faulty.discard(item.id)
        return found

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
