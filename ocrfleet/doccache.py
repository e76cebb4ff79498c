"""Documents and archives on disk while they are read: one of 500 pages is fetched once, not 500 times."""

import hashlib
import itertools
import tempfile
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ocrfleet.archives import Bounds
from ocrfleet.documents import HEAD_BYTES, ArchiveType, sniff_archive
from ocrfleet.errors import StorageUnavailable
from ocrfleet.s3 import BlobInfo, Fetched
from ocrfleet.sandbox import Sandbox

_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """A fetched object in a file of our own."""

    path: Path
    sha256: str
    """Of what was fetched, in hex."""
    size: int
    """Of the file."""
    info: BlobInfo


@dataclass(slots=True)
class _Entry:
    document: "Future[Document]"
    users: int = 0


def taken_out(sandbox: Sandbox, archive: Document, member: str, bounds: Bounds) -> Fetched:
    """A member of an archive, as if it had been fetched by itself."""
    data = sandbox.extract(archive.path, member, bounds)
    info = replace(archive.info, size=len(data))
    return Fetched(data, info, hashlib.sha256(data).hexdigest())


class DocumentCache:
    """Keeps what is in use, and up to `max_idle_bytes` of what was used last."""

    def __init__(self, max_idle_bytes: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ocrfleet-documents-")
        self._max_idle_bytes = max_idle_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._names = itertools.count()

    @contextmanager
    def use(
        self, key: Hashable, fetch: Callable[[], Fetched], bounds: Bounds | None = None
    ) -> Generator[Document]:
        """What is under the key; whoever comes first fetches it, the others wait for that fetch and share its error.

        With `bounds` it is an archive: a `.tar.gz` is kept as the tar within, unless that is larger than what may be
        idle here, so that a member is found without inflating all that is before it.
        """
        with self._lock:
            entry = self._entries.get(key)
            mine = entry is None
            if entry is None:
                entry = self._entries[key] = _Entry(Future())
            entry.users += 1
            self._entries.move_to_end(key)
        try:
            if mine:
                self._fill(entry, fetch, bounds)
            yield entry.document.result()
        finally:
            self._release(key, entry)

    def _fill(self, entry: _Entry, fetch: Callable[[], Fetched], bounds: Bounds | None) -> None:
        try:
            fetched = fetch()
            path = Path(self._folder.name) / str(next(self._names))
            self._keep(path, fetched.data, bounds)
            entry.document.set_result(Document(path, fetched.sha256, path.stat().st_size, fetched.info))
        except BaseException as exc:  # noqa: BLE001 (it is raised again, in every thread that waits for it)
            entry.document.set_exception(exc)

    def _keep(self, path: Path, data: bytes, bounds: Bounds | None) -> None:
        if bounds and sniff_archive(data[:HEAD_BYTES]) is ArchiveType.GZIP:
            most = min(self._max_idle_bytes, bounds.inflated(len(data)))
            with suppress(_NotInflated):
                self._write(path, _inflated(data, most), len(data))
                return
        self._write(path, [data], len(data))

    def _write(self, path: Path, chunks: Iterable[bytes], size: int) -> None:
        try:
            with path.open("wb") as file:
                file.writelines(chunks)
        except OSError as exc:
            path.unlink(missing_ok=True)
            # A full disk is no fault of the page's, and may pass.
            raise StorageUnavailable(f"This machine cannot keep a document of {size} bytes: {exc}") from exc

    def _release(self, key: Hashable, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            if entry.users == 0 and entry.document.exception() is not None:
                # A failed fetch is not kept: the next attempt is a new one.
                self._entries.pop(key, None)
            self._evict()

    def _evict(self) -> None:
        idle = [(key, entry) for key, entry in self._entries.items() if entry.users == 0]
        excess = sum(entry.document.result().size for _, entry in idle) - self._max_idle_bytes
        for key, entry in idle:
            if excess <= 0:
                return
            document = entry.document.result()
            document.path.unlink(missing_ok=True)
            excess -= document.size
            del self._entries[key]

    def close(self) -> None:
        self._folder.cleanup()


class _NotInflated(Exception):  # noqa: N818 (it is no error of the user's: the archive is kept as it came)
    """The gzip data hold no tar, are damaged, or inflate to too much."""


def _inflated(data: bytes, most: int) -> Iterator[bytes]:
    """The tar within gzip data, of at most so many bytes; _NotInflated, maybe after some of it."""
    gzip, written = zlib.decompressobj(wbits=31), 0
    for start in range(0, len(data), _PIECE):
        piece, chunk = data[start : start + _PIECE], b""
        while (piece or len(chunk) == _PIECE) and not gzip.eof:
            try:
                chunk = gzip.decompress(piece, _PIECE)
            except zlib.error as exc:
                raise _NotInflated from exc
            if not written and sniff_archive(chunk[:HEAD_BYTES]) is not ArchiveType.TAR:
                raise _NotInflated
            piece, written = gzip.unconsumed_tail, written + len(chunk)
            if written > most:
                raise _NotInflated
            yield chunk
    if not gzip.eof:
        raise _NotInflated
