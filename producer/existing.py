"""`output.on_existing`: objects whose result is in the output bucket already are left out, or refused."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from ocrfleet.blobs import Blobs
from ocrfleet.errors import InputNotFound, OutputExists
from ocrfleet.store.expansion import NewItem

THREADS = 16
SUFFIX = ".json"


class Existing:
    """Asks the store for the result of each item, several at a time."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._threads = ThreadPoolExecutor(THREADS, "existing")

    def sift(self, output: Mapping[str, Any], items: Sequence[NewItem]) -> list[NewItem]:
        """The items that are to be read; with `fail`, those whose result is there come with an error.

        A file in an archive is asked for by `member`, as `<key>/<member>`. Raises what the store raises.
        """
        wanted = output.get("on_existing", "overwrite")
        if not output.get("per_item") or wanted == "overwrite":
            return list(items)
        there = self._threads.map(partial(self._has_result, output), items)
        found = zip(items, there, strict=True)
        if wanted == "skip":
            return [item for item, exists in found if not exists]
        return [_refused(output, item) if exists else item for item, exists in found]

    def _has_result(self, output: Mapping[str, Any], item: NewItem) -> bool:
        if item.error is not None:
            return False
        try:
            self._blobs.stat(*_place(output, item))
        except InputNotFound:
            return False
        return True

    def close(self) -> None:
        self._threads.shutdown()


def _place(output: Mapping[str, Any], item: NewItem) -> tuple[str, str]:
    name = f"{item.key}/{item.member}" if item.member else item.key
    return output.get("bucket") or item.bucket, f"{output.get('prefix', 'results/')}{name}{SUFFIX}"


def _refused(output: Mapping[str, Any], item: NewItem) -> NewItem:
    bucket, key = _place(output, item)
    error = OutputExists(f"{bucket}/{key} is there already.", bucket=bucket, key=key)
    return replace(item, error=error, countable=False)
