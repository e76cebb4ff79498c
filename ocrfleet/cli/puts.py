"""Local files into the bucket with the keys of the store, several at a time, except those that are there already."""

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from ocrfleet.api_types import ObjectRef
from ocrfleet.blobs import Blobs
from ocrfleet.cli.inputs import LocalFile
from ocrfleet.cli.progress import Display
from ocrfleet.errors import InputAccessDenied, StorageUnavailable
from ocrfleet.s3 import PART, BlobInfo

THREADS = 8
TRIES = 6
MANIFEST_TYPE = "application/x-ndjson"
_PLAIN = re.compile(r"[\w .,=@+()/-]{1,600}")


def upload(
    blobs: Blobs, bucket: str, prefix: str, files: Sequence[LocalFile], screen: Display
) -> list[ObjectRef]:
    """Put the files under the prefix; returns their manifest lines, in order. Repeating it puts what is missing."""
    present = {info.key: info for info in blobs.scan(bucket, prefix)}
    lines: list[ObjectRef] = [{"key": prefix + _key(file.name), "custom_id": file.name} for file in files]
    stop = threading.Event()

    def put(file: LocalFile, key: str) -> None:
        if not stop.is_set() and not _same(file.path, present.get(key)):
            _put(blobs, bucket, key, file.path, stop)

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            jobs = (pool.submit(put, file, line["key"]) for file, line in zip(files, lines, strict=True))
            for done, _ in enumerate(_bounded(jobs, 4 * THREADS), 1):
                screen.show("uploading", done, len(files))
        finally:
            stop.set()
    return lines


def clear(blobs: Blobs, bucket: str, prefix: str) -> None:
    """Remove what was put under the prefix: the files themselves are still where they came from."""
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in _bounded(
            (pool.submit(blobs.remove, bucket, i.key) for i in blobs.scan(bucket, prefix)), 4 * THREADS
        ):
            pass


def _bounded(jobs: Iterable[Future[None]], limit: int) -> Iterator[None]:
    """Results as jobs end, of which only so many are begun ahead."""
    pending: set[Future[None]] = set()
    for job in jobs:
        pending.add(job)
        if len(pending) >= limit:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    yield from (future.result() for future in pending)


def _put(blobs: Blobs, bucket: str, key: str, path: Path, stop: threading.Event) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            blobs.put(bucket, key, path, "application/octet-stream")
        except OSError as exc:
            raise InputAccessDenied(f"{path}: {exc.strerror or exc}") from exc
        except StorageUnavailable:
            if attempt == TRIES or stop.wait(0.25 * 2**attempt):
                raise
        else:
            return


def _key(name: str) -> str:
    """The name itself, or its hash where a store might not keep it letter by letter."""
    plain = _PLAIN.fullmatch(name) and "//" not in name
    return name if plain else hashlib.sha256(name.encode()).hexdigest()


def _same(path: Path, info: BlobInfo | None) -> bool:
    return info is not None and path.stat().st_size == info.size and etag(path) == info.etag


def etag(path: Path) -> str:
    """The ETag a store gives to the file's bytes: their MD5, or that of the parts' MD5s."""
    digests: list[bytes] = []
    with path.open("rb") as file:
        while part := file.read(PART):
            digests.append(hashlib.md5(part, usedforsecurity=False).digest())
    if len(digests) > 1:
        return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"
    return digests[0].hex() if digests else hashlib.md5(usedforsecurity=False).hexdigest()
