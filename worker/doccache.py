"""Documents on disk while their pages are read, so that a document of 500 pages is fetched once, not 500 times."""

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ocrfleet.errors import StorageUnavailable
from ocrfleet.s3 import Fetched


@dataclass(frozen=True, slots=True)
class Document:
    """A fetched object in a file of our own."""

    path: Path
    sha256: str
    size: int


@dataclass(slots=True)
class _Entry:
    document: "Future[Document]"
    users: int = 0


class DocumentCache:
    """Keeps what is in use, and up to `max_idle_bytes` of what was used last."""

    def __init__(self, max_idle_bytes: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ocrfleet-documents-")
        self._max_idle_bytes = max_idle_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[int, _Entry] = OrderedDict()

    @contextmanager
    def use(self, item_id: int, fetch: Callable[[], Fetched]) -> Generator[Document]:
        """The item's document; whoever comes first fetches it, the others wait for that fetch and share its error."""
        with self._lock:
            entry = self._entries.get(item_id)
            mine = entry is None
            if entry is None:
                entry = self._entries[item_id] = _Entry(Future())
            entry.users += 1
            self._entries.move_to_end(item_id)
        try:
            if mine:
                self._fill(item_id, entry, fetch)
            yield entry.document.result()
        finally:
            self._release(item_id, entry)

    def _fill(self, item_id: int, entry: _Entry, fetch: Callable[[], Fetched]) -> None:
        try:
            fetched = fetch()
            path = Path(self._folder.name) / str(item_id)
            self._write(path, fetched.data)
            entry.document.set_result(Document(path, fetched.sha256, len(fetched.data)))
        except BaseException as exc:  # noqa: BLE001 (it is raised again, in every thread that waits for it)
            entry.document.set_exception(exc)

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.write_bytes(data)
        except OSError as exc:
            path.unlink(missing_ok=True)
            # A full disk is no fault of the page's, and may pass.
            raise StorageUnavailable(
                f"The worker cannot keep a document of {len(data)} bytes: {exc}"
            ) from exc

    def _release(self, item_id: int, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            if entry.users == 0 and entry.document.exception() is not None:
                # A failed fetch is not kept: the next attempt is a new one.
                self._entries.pop(item_id, None)
            self._evict()

    def _evict(self) -> None:
        idle = [(item_id, entry) for item_id, entry in self._entries.items() if entry.users == 0]
        excess = sum(entry.document.result().size for _, entry in idle) - self._max_idle_bytes
        for item_id, entry in idle:
            if excess <= 0:
                return
            document = entry.document.result()
            document.path.unlink(missing_ok=True)
            excess -= document.size
            del self._entries[item_id]

    def close(self) -> None:
        self._folder.cleanup()
