"""Documents on disk: fetched once for all their pages, errors shared and not kept, the idle ones evicted."""

import gzip
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest
from zips import tarred

from ocrfleet.archives import Bounds
from ocrfleet.doccache import DocumentCache
from ocrfleet.errors import StorageUnavailable
from ocrfleet.s3 import BlobInfo, Fetched

PATIENCE = 10.0


class Fetch:
    """Counts how often it is called; waits at its gate, then gives bytes or raises."""

    def __init__(self, data: bytes = b"document", error: Exception | None = None) -> None:
        self.calls = 0
        self.begun, self.gate = threading.Event(), threading.Event()
        self._data, self._error = data, error

    def __call__(self) -> Fetched:
        self.calls += 1
        self.begun.set()
        assert self.gate.wait(PATIENCE)
        if self._error:
            raise self._error
        info = BlobInfo("ocr", "a.pdf", "etag", None, len(self._data))
        return Fetched(self._data, info, sha256(self._data).hexdigest())


def at_once(data: bytes) -> Fetch:
    fetch = Fetch(data)
    fetch.gate.set()
    return fetch


@pytest.fixture
def cache() -> Generator[DocumentCache]:
    cache = DocumentCache(max_idle_bytes=100)
    yield cache
    cache.close()


def read(cache: DocumentCache, item: int, fetch: Callable[[], Fetched]) -> bytes:
    with cache.use(item, fetch) as document:
        return document.path.read_bytes()


def test_many_threads_share_one_fetch(cache: DocumentCache) -> None:
    fetch = Fetch(b"pages")
    with ThreadPoolExecutor(8) as threads:
        reads = [threads.submit(read, cache, 1, fetch) for _ in range(8)]
        assert fetch.begun.wait(PATIENCE)
        fetch.gate.set()
        assert {one.result(PATIENCE) for one in reads} == {b"pages"}
    assert fetch.calls == 1


def test_a_document_tells_its_hash_and_size(cache: DocumentCache) -> None:
    with cache.use(1, at_once(b"pages")) as document:
        assert (document.sha256, document.size) == (sha256(b"pages").hexdigest(), 5)


def test_a_failed_fetch_fails_all_who_waited_and_is_not_kept(cache: DocumentCache) -> None:
    fetch = Fetch(error=StorageUnavailable("the store is away"))
    with ThreadPoolExecutor(4) as threads:
        reads = [threads.submit(read, cache, 1, fetch) for _ in range(4)]
        assert fetch.begun.wait(PATIENCE)
        fetch.gate.set()
        errors = [one.exception(PATIENCE) for one in reads]
    assert all(isinstance(error, StorageUnavailable) for error in errors)
    assert read(cache, 1, at_once(b"back")) == b"back"


def test_what_was_used_last_is_kept_up_to_the_limit(cache: DocumentCache) -> None:
    for item in (1, 2, 3):
        read(cache, item, at_once(bytes([item]) * 50))
    # 150 bytes lie idle, 100 may: the first goes.
    again = {item: at_once(bytes([item]) * 50) for item in (3, 2, 1)}
    for item, fetch in again.items():
        assert read(cache, item, fetch) == bytes([item]) * 50
    assert {item: fetch.calls for item, fetch in again.items()} == {3: 0, 2: 0, 1: 1}


def test_what_is_in_use_is_never_evicted(cache: DocumentCache) -> None:
    with cache.use(1, at_once(b"x" * 1000)) as document:
        for item in range(2, 6):
            read(cache, item, at_once(b"y" * 90))
        assert document.path.read_bytes() == b"x" * 1000
    # Idle now, and over the limit by itself.
    assert not document.path.exists()


def test_nothing_is_left_when_it_closes() -> None:
    cache = DocumentCache(max_idle_bytes=100)
    with cache.use(1, at_once(b"x")) as document:
        folder = document.path.parent
    cache.close()
    assert not folder.exists()


def test_a_disk_that_takes_no_more_is_no_fault_of_the_page(cache: DocumentCache) -> None:
    read(cache, 1, at_once(b"x" * 101))
    cache._folder.cleanup()
    with pytest.raises(StorageUnavailable, match="101 bytes"):
        read(cache, 2, at_once(b"y" * 101))


# Archives

TAR = tarred({"a.png": b"first", "b.png": b"second" * 9})
BOUNDS = Bounds(entries=10, total_bytes=10**6, member_bytes=10**6, ratio=10)


def kept(data: bytes, *, most: int = 10**6, bounds: Bounds | None = BOUNDS) -> bytes:
    """What stands on the disk."""
    cache = DocumentCache(most)
    try:
        with cache.use(1, at_once(data), bounds) as document:
            found = document.path.read_bytes()
            assert document.size == len(found)
            assert document.sha256 == sha256(data).hexdigest()
            return found
    finally:
        cache.close()


def test_a_gzipped_tar_is_inflated_once_for_all_its_members() -> None:
    data = gzip.compress(TAR)
    cache = DocumentCache(len(TAR))
    fetch = at_once(data)
    for _ in range(2):
        with cache.use(1, fetch, BOUNDS) as document:
            assert document.path.read_bytes() == TAR
    assert fetch.calls == 1
    cache.close()
    assert kept(data, bounds=None) == data, "nobody said that it is an archive"
    large = tarred({"a": bytes(range(256)) * 20_000})
    assert kept(gzip.compress(large), most=10**7, bounds=Bounds(9, 10**7, 10**7, 10)) == large


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(TAR)[:-1],
        gzip.compress(TAR)[:12] + b"damage" + gzip.compress(TAR)[18:],
        gzip.compress(b"no tar" * 99),
        gzip.compress(gzip.compress(TAR)),
        gzip.compress(b""),
        TAR,
    ],
    ids=["truncated", "damaged", "no tar", "twice", "nothing", "not gzip'd"],
)
def test_what_holds_no_tar_is_kept_as_it_came(data: bytes) -> None:
    assert kept(data) == data


def test_a_tar_beyond_the_disk_or_the_bounds_is_not_inflated() -> None:
    data = gzip.compress(TAR)
    assert kept(data, most=len(TAR) - 1) == data
    assert kept(data, bounds=Bounds(10, len(TAR) - 1, 10**6, 10)) == data
