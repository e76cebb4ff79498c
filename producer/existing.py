"""`output.on_existing`: objects whose result is in the output bucket already are left out, or refused."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from os.path import commonprefix
from typing import Any

from ocrfleet.blobs import Blobs
from ocrfleet.errors import CallerError, InputNotFound, OutputExists
from ocrfleet.rights import Rights
from ocrfleet.store.expansion import NewItem

THREADS = 32
SUFFIX = ".json"
LISTED = 4
"""Keys that are listed at most for each that is looked for: a thousand come with one answer of the store."""

Place = tuple[str, str]
"""Bucket and key of a result."""


class Existing:
    """Finds results by listing where they would be, and asks for the others one by one, several at a time."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._threads = ThreadPoolExecutor(THREADS, "existing")

    def sift(self, output: Mapping[str, Any], items: Sequence[NewItem], rights: Rights) -> list[NewItem]:
        """The items that are to be read; with `fail`, those whose result is there come with an error.

        A file in an archive is asked for by `member`, as `<key>/<member>`. Where the tenant may not write, nothing is
        there for it. Raises what the store raises.
        """
        wanted = output.get("on_existing", "overwrite")
        if not output.get("per_item") or wanted == "overwrite":
            return list(items)
        places = {_place(output, item) for item in items if item.error is None}
        mine = {place for place in places if rights.may_write(*place)}
        there = self._there(mine, named=bool(output.get("bucket")))
        if wanted == "skip":
            return [item for item in items if item.error or _place(output, item) not in there]
        return [_refused(output, item, there) for item in items]

    def _there(self, places: Collection[Place], *, named: bool) -> set[Place]:
        """Those of the places where there is an object; `named` says that the job names their bucket, not its lines."""
        there, unknown = set[Place](), list[Place]()
        for bucket in {bucket for bucket, _ in places}:
            mine = [place for place in places if place[0] == bucket]
            listed, complete = self._list(bucket, [key for _, key in mine])
            there.update(place for place in mine if place[1] in listed)
            if not complete:
                unknown += [place for place in mine if place[1] not in listed]
        exists = self._threads.map(partial(self._exists, named=named), unknown)
        there.update(place for place, found in zip(unknown, exists, strict=True) if found)
        return there

    def _list(self, bucket: str, keys: Sequence[str]) -> tuple[set[str], bool]:
        """What the keys' common prefix holds, and whether that is all of it: stores differ in the order they list in."""
        if len(keys) <= THREADS:
            return set(), False
        most = LISTED * len(keys)
        try:
            found = self._blobs.scan(bucket, commonprefix(keys))  # noqa: RUF071 (keys are no paths)
            listed = {info.key for info in islice(found, most)}
            return listed, len(listed) < most
        except CallerError:
            # A bucket may be read and written and yet not be listed.
            return set(), False

    def _exists(self, place: Place, *, named: bool) -> bool:
        try:
            self._blobs.stat(*place)
        except InputNotFound:
            return False
        except CallerError:
            # A line's bucket that is closed to us is that line's fault alone.
            if named:
                raise
            return False
        return True

    def close(self) -> None:
        self._threads.shutdown()


def _place(output: Mapping[str, Any], item: NewItem) -> Place:
    name = f"{item.key}/{item.member}" if item.member else item.key
    return output.get("bucket") or item.bucket, f"{output.get('prefix', 'results/')}{name}{SUFFIX}"


def _refused(output: Mapping[str, Any], item: NewItem, there: Collection[Place]) -> NewItem:
    bucket, key = place = _place(output, item)
    if item.error or place not in there:
        return item
    error = OutputExists(f"{bucket}/{key} is there already.", bucket=bucket, key=key)
    return replace(item, error=error, countable=False)
