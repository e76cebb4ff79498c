"""Counting: how many pages an item has, found in a sandbox, never in this process."""

import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from ocrfleet.archives import Bounds
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.doccache import DocumentCache, taken_out
from ocrfleet.documents import COUNTED, HEAD_BYTES, Limits, parse_pages, sniff, sniff_archive
from ocrfleet.errors import FleetError, Internal, StorageUnavailable
from ocrfleet.inputs import member_item
from ocrfleet.s3 import Fetched
from ocrfleet.sandbox import Sandbox
from ocrfleet.settings import Settings
from ocrfleet.store import containers, expansion, rights
from ocrfleet.store.counting import lease_items, postpone, renew
from ocrfleet.store.expansion import CountedItem, NewItem, PendingItem
from producer.existing import Existing

log = structlog.get_logger()

LEASE_SECONDS = 45.0
POSTPONE_SECONDS = 5.0
TURN_SECONDS = 5.0
"""After this long no more items are leased before the step ends, so that a producer that is to stop does."""
_AT_ONCE = 32
"""Not only as many as there are threads: among these every tenant has its share."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was found in an archive: its files, less those that are left out since their results are there."""

    item: PendingItem
    members: list[NewItem]


class Counter:
    """Counts leased items with a few sandboxed processes; any number of producers may do so at once."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        blobs: Blobs,
        *,
        lease_seconds: float = LEASE_SECONDS,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._bucket = settings.bucket
        self._max_bytes = settings.max_object_bytes
        self._sandbox = Sandbox(settings.decode_processes, Limits.of(settings))
        self._bounds = Bounds.of(settings)
        # An archive is fetched once for all the documents in it that are counted one after the other.
        self._archives = DocumentCache(max(settings.max_object_bytes, settings.document_cache_bytes))
        self._existing = Existing(blobs)
        self._faulty: set[int] = set()
        self._at_once = settings.decode_processes
        self._threads = ThreadPoolExecutor(self._at_once, thread_name_prefix="count")
        self._lease_seconds = lease_seconds
        self._turn_seconds = turn_seconds

    def step(self) -> int:
        """Lease some items, count them, write the pages of each as it is done; returns how many were leased.

        More are leased before the last of them have ended, and the leases hold for as long as they wait or are counted.
        """
        leased = self._lease()
        counting = {self._threads.submit(self._try, item): item for item in leased}
        total, until, renewed = len(leased), time.monotonic() + self._turn_seconds, time.monotonic()
        while counting:
            done, _ = wait(counting, self._lease_seconds / 3, FIRST_COMPLETED)
            for one in done:
                self._write(counting.pop(one), one)
            if time.monotonic() >= renewed + self._lease_seconds / 3:
                renewed = time.monotonic()
                with self._database.statement() as session:
                    renew(session, [item.id for item in counting.values()], self._lease_seconds)
            if len(counting) < self._at_once and time.monotonic() < until:
                more = self._lease()
                counting |= {self._threads.submit(self._try, item): item for item in more}
                total += len(more)
        return total

    def _lease(self) -> list[PendingItem]:
        with self._database.statement() as session:
            return lease_items(session, _AT_ONCE, self._lease_seconds)

    def _write(self, item: PendingItem, done: Future[CountedItem | Unpacked | None]) -> None:
        found = done.result()
        with self._database.transaction() as session:
            if found is None:
                postpone(session, [item.id], POSTPONE_SECONDS)
            elif isinstance(found, Unpacked):
                containers.unpack(session, found.item, found.members)
            else:
                expansion.counted(session, [found])

    def _try(self, item: PendingItem) -> CountedItem | Unpacked | None:
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
        error = None if isinstance(found, Unpacked) else found.error
        if isinstance(error, Internal) and item.id not in self._faulty:
            self._faulty.add(item.id)
            return None
        self._faulty.discard(item.id)
        return found

    def _count(self, item: PendingItem) -> CountedItem | Unpacked:
        fetched = self._fetch(item)
        if item.member is None and sniff_archive(fetched.data[:HEAD_BYTES]):
            return self._unpacked(item, fetched)
        pages = 1
        if sniff(fetched.data[:HEAD_BYTES]) in COUNTED:
            with tempfile.NamedTemporaryFile(prefix="ocrfleet-count-") as file:
                file.write(fetched.data)
                file.flush()
                pages = self._sandbox.count(Path(file.name), item.options.get("password")).pages
        wanted = item.options.get("pages")
        numbers = parse_pages(wanted, pages) if wanted else range(1, pages + 1)
        info = fetched.info
        return CountedItem(item, pages, numbers, info.etag, info.version_id, size=info.size)

    def _fetch(self, item: PendingItem) -> Fetched:
        fetch = partial(
            self._blobs.fetch,
            item.bucket,
            item.key,
            max_bytes=self._max_bytes,
            etag=item.etag,
            version_id=item.version_id,
        )
        if item.member is None:
            return fetch()
        key = (item.bucket, item.key, item.etag, item.version_id)
        with self._archives.use(key, fetch, self._bounds) as archive:
            return taken_out(self._sandbox, archive, item.member, self._bounds)

    def _unpacked(self, item: PendingItem, fetched: Fetched) -> Unpacked:
        info = fetched.info
        # Under the version that its members will be asked for.
        key = (item.bucket, item.key, item.etag or info.etag, item.version_id or info.version_id)
        with self._archives.use(key, lambda: fetched, self._bounds) as archive:
            found = self._sandbox.members(archive.path, self._bounds)
        ranged = "pages" in item.options
        members = [member_item(n, one, info, ranged=ranged) for n, one in enumerate(found)]
        with self._database.statement() as session:
            held = rights.of_job(session, item.job_id, self._bucket)
        return Unpacked(item, self._existing.sift(item.output, members, held))

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._existing.close()
        self._sandbox.close()
        self._archives.close()
