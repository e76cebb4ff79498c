"""The manifest of an export while it is written: a part for each chunk in our own bucket, until they are joined."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

import orjson

from ocrfleet.blobs import Blobs
from ocrfleet.s3 import BlobInfo
from ocrfleet.settings import Settings

JSON_LINES = "application/x-ndjson"
PARTS = "exporting/"
_AT_ONCE = 8
T = TypeVar("T")


class ManifestParts:
    """Those of all exports; safe for use by several threads."""

    def __init__(self, settings: Settings, blobs: Blobs) -> None:
        self._settings = settings
        self._blobs = blobs
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="export-parts")

    def put(self, export_id: UUID, lines: Sequence[dict[str, Any]]) -> None:
        """Put the lines of a chunk, in order.

        Named by its items: of two producers that wrote the same chunk, neither hides what the other has. Ordinals
        have up to 19 digits, and names are joined as they are listed.
        """
        name = f"{_folder(export_id)}{lines[0]['ordinal']:020}-{lines[-1]['ordinal']:020}.jsonl"
        data = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
        self._blobs.put(self._settings.bucket, name, data, JSON_LINES)

    def lines(self, export_id: UUID) -> Iterator[bytes]:
        """One for each item, by ordinal, each with its end."""

        def fetch(info: BlobInfo) -> bytes:
            return self._blobs.fetch(info.bucket, info.key, max_bytes=self._settings.max_object_bytes).data

        last = -1
        for data in self._each(export_id, fetch):
            for line in data.splitlines(keepends=True):
                if (ordinal := orjson.loads(line)["ordinal"]) > last:
                    yield line
                    last = ordinal

    def remove(self, export_id: UUID, after: int = -1) -> None:
        """Remove those that begin behind the ordinal."""
        for _ in self._each(export_id, lambda info: self._blobs.remove(info.bucket, info.key), after):
            pass

    def _each(self, export_id: UUID, do: Callable[[BlobInfo], T], after: int = -1) -> Iterator[T]:
        """What `do` gives for each part, in their order, a few at a time."""
        begun, folder = deque[Future[T]](), _folder(export_id)
        try:
            for info in self._blobs.scan(
                self._settings.bucket, folder, start_after=f"{folder}{after + 1:020}"
            ):
                begun.append(self._threads.submit(do, info))
                if len(begun) >= _AT_ONCE:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for one in begun:
                one.cancel()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)


def _folder(export_id: UUID) -> str:
    return f"{PARTS}{export_id}/"
