"""A store that keeps what is put, and jobs whose pages have ended as a test says."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from fleet_builders import add_job, add_worker, send, tenant_id

from ocrfleet.blobs import NullBlobs
from ocrfleet.db import Database
from ocrfleet.errors import FleetError, InputNotFound
from ocrfleet.s3 import BlobInfo, Fetched, check
from ocrfleet.settings import Settings
from ocrfleet.states import ExportFormat, PageState
from ocrfleet.store import counting, expansion, exports, outcomes, pages, tenants
from ocrfleet.store.expansion import CountedItem, NewItem
from ocrfleet.store.settle import Settlement, settle
from producer.exports.run import Exporter
from worker import settlements

Ending = Mapping[str, Any] | FleetError
OUT = "out/"


class Kept(NullBlobs):
    """Objects in memory; `refuse` is raised by puts whose key has the text, as often as it says."""

    def __init__(self) -> None:
        super().__init__(0)
        self.objects: dict[tuple[str, str], bytes] = {}
        self.refuse: dict[str, list[BaseException]] = {}
        self._lock = threading.Lock()

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo:
        assert "/" in content_type
        for part, errors in self.refuse.items():
            if part in key and errors:
                raise errors.pop()
        with self._lock:
            self.objects[bucket, key] = data if isinstance(data, bytes) else data.read_bytes()
        return self.stat(bucket, key)

    def stat(self, bucket: str, key: str) -> BlobInfo:
        if (bucket, key) not in self.objects:
            raise InputNotFound(f"there is no {bucket}/{key}")
        return BlobInfo(bucket, key, "", None, len(self.objects[bucket, key]))

    def fetch(
        self, bucket: str, key: str, *, max_bytes: int, etag: str | None = None, version_id: str | None = None
    ) -> Fetched:
        del version_id
        info = self.stat(bucket, key)
        check(info, etag, max_bytes)
        return Fetched(self.objects[bucket, key], info, "")

    def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
        keys = sorted(key for held, key in self.objects if held == bucket and key.startswith(prefix))
        yield from (self.stat(bucket, key) for key in keys if key > start_after)

    def remove(self, bucket: str, key: str) -> None:
        self.objects.pop((bucket, key), None)

    def under(self, prefix: str = OUT) -> dict[str, bytes]:
        """What is in the bucket of exports behind the prefix."""
        return {
            key.removeprefix(prefix): data
            for (bucket, key), data in sorted(self.objects.items())
            if bucket == "exports" and key.startswith(prefix)
        }

    def manifest(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.under()["manifest.jsonl"].splitlines()]


class Hooked(Kept):
    """Before an act (put, fetch, remove) on a key that has the text, something happens."""

    def __init__(self, act: str, part: str, what: Callable[[], object]) -> None:
        super().__init__()
        self._act, self._part, self._what = act, part, what

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo:
        self._reach("put", key)
        return super().put(bucket, key, data, content_type)

    def fetch(self, bucket: str, key: str, **bounds: Any) -> Fetched:
        self._reach("fetch", key)
        return super().fetch(bucket, key, **bounds)

    def remove(self, bucket: str, key: str) -> None:
        self._reach("remove", key)
        super().remove(bucket, key)

    def _reach(self, act: str, key: str) -> None:
        if act == self._act and self._part in key:
            self._what()


def said(words: str) -> dict[str, Any]:
    return {"text": words}


def named(count: int, first: int = 0) -> dict[str, Any]:
    return {f"{n:03}.png": [said(str(n))] for n in range(first, first + count)}


def ended_job(database: Database, items: Mapping[str, Sequence[Ending]], **job: Any) -> UUID:
    """A job that is over: for each key the pages of its document, in order, and what became of each."""
    made = [NewItem(n, "in", key, countable=True) for n, key in enumerate(items)]
    job_id = add_job(database, made, **job)
    endings = {key: list(found) for key, found in items.items()}
    with database.transaction() as session:
        leased = counting.lease_items(session, 10_000, 60, per_job=10_000)
        counted = [
            CountedItem(item, len(endings[item.key]), range(1, len(endings[item.key]) + 1)) for item in leased
        ]
        expansion.counted(session, counted)
    settle_all(database, job_id, endings)
    return job_id


def of_another(database: Database, tenant: str = "second") -> UUID:
    """A job of another tenant's that is over."""
    with database.transaction() as session:
        tenants.create(session, tenant)
    job_id = add_job(database, [NewItem(0, "in", "b.png")], tenant=tenant)
    settle_all(database, job_id, {"b.png": [said("b")]})
    return job_id


def settle_all(database: Database, job_id: UUID, endings: Mapping[str, Sequence[Ending]]) -> None:
    worker = add_worker(database)
    batch = send(database, job_id, limit=100_000)
    if not batch.pages:
        return
    with database.transaction() as session:
        claimed = pages.claim(session, worker, batch.pages)
    done = list[Settlement]()
    for page in claimed:
        ending = endings[page.key][page.number - 1]
        if isinstance(ending, FleetError):
            body = outcomes.error_body(ending)
            settlement = settlements.of(page, worker, PageState.DEAD, body)
            done.append(replace(settlement, code=ending.code, detail=ending.detail))
        else:
            body = orjson.dumps(ending).decode()
            done.append(settlements.of(page, worker, PageState.SUCCEEDED, body))
    with database.transaction() as session:
        assert len(settle(session, done)) == len(claimed)


def ask(database: Database, job_id: UUID, kind: str, *, partial: bool = False) -> UUID:
    """An export of the job to `out/` in the bucket `exports`, as the API makes it."""
    with database.transaction() as session:
        asked = exports.NewExport(job_id, ExportFormat(kind), "exports", OUT, partial)
        return exports.create(session, tenant_id(session), "a-key", asked)


def make(
    database: Database, job_id: UUID, prefix: str, tenant: str = "default", *, unfinished: bool = False
) -> UUID:
    """An export of lines to the bucket `exports`."""
    with database.transaction() as session:
        asked = exports.NewExport(job_id, ExportFormat.JSONL, "exports", prefix, unfinished)
        return exports.create(session, tenant_id(session, tenant), "a-key", asked)


def state(database: Database, export_id: UUID) -> dict[str, Any]:
    with database.transaction() as session:
        found = exports.get(session, tenant_id(session), export_id)
        assert found is not None
        return dict(found)


def exporter(database: Database, store: NullBlobs, **settings: Any) -> Exporter:
    return Exporter(Settings(bucket="ours", decode_processes=1, **settings), database, store)


def run_all(database: Database, store: NullBlobs, **settings: Any) -> None:
    """Until nothing is left to be written."""
    made = exporter(database, store, **settings)
    try:
        while made.step():
            pass
    finally:
        made.close()
