"""Reading a job's input in chunks: inline objects, uploads, the keys under a prefix, the lines of a manifest.

Each reader goes on from the cursor of the chunk before, so that a crash in the middle repeats and loses nothing. The
producer expands jobs with it, and the API tells with it what a job would be.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any
from uuid import UUID

from ocrfleet import manifests
from ocrfleet.blobs import Blobs
from ocrfleet.errors import InputAccessDenied
from ocrfleet.manifest_lines import countable, item
from ocrfleet.manifests import Place
from ocrfleet.store.expansion import Expansion, NewItem
from ocrfleet.store.rolling import OUR_PREFIXES


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some items, and the cursor behind them."""

    items: list[NewItem]
    cursor: dict[str, Any]
    last: bool
    part: float | None = None
    """How much of the input is read now, from 0 to 1, where that is known."""


def read(blobs: Blobs, expansion: Expansion, size: int) -> Generator[Chunk]:
    """The rest of the input, at most `size` items a chunk; the last chunk (it may be empty) says so."""
    match expansion.input["type"]:
        case "objects" | "uploads":
            return _objects(expansion, size)
        case "prefix":
            return _prefix(blobs, expansion, size)
        case _:
            return _manifest(blobs, expansion, size)


def is_private(bucket: str, key: str, *, own: str, tenant_id: UUID | None) -> bool:
    """Whether the object lies where our own bucket, `own`, keeps what is another tenant's, or nobody's input."""
    if bucket != own or not key.startswith(OUR_PREFIXES):
        return False
    return not any(key.startswith(f"{prefix}{tenant_id}/") for prefix in OUR_PREFIXES)


def check_readable(bucket: str, key: str, *, own: str, tenant_id: UUID | None) -> None:
    """Raise InputAccessDenied for an object that `is_private`."""
    if is_private(bucket, key, own=own, tenant_id=tenant_id):
        raise InputAccessDenied(f"{bucket}/{key} is kept for the fleet itself.")


def permitted(items: Sequence[NewItem], expansion: Expansion, own: str) -> list[NewItem]:
    """The items that the job's tenant may read: a prefix passes over the others, whoever names one meets an error."""
    kept: list[NewItem] = []
    for one in items:
        if not is_private(one.bucket, one.key, own=own, tenant_id=expansion.tenant_id):
            kept.append(one)
        elif expansion.input["type"] != "prefix":
            error = InputAccessDenied(f"{one.bucket}/{one.key} is kept for the fleet itself.")
            kept.append(replace(one, error=error, countable=False))
    return kept


def _objects(expansion: Expansion, size: int) -> Generator[Chunk]:
    objects = expansion.input["objects"]
    start, ranged = int(expansion.cursor.get("next", 0)), "pages" in expansion.options
    while True:
        end = min(start + size, len(objects))
        items = [item(n, objects[n], objects[n]["bucket"], ranged=ranged) for n in range(start, end)]
        yield Chunk(items, {"next": end}, last=end == len(objects), part=end / max(1, len(objects)))
        if end == len(objects):
            return
        start = end


def _prefix(blobs: Blobs, expansion: Expansion, size: int) -> Generator[Chunk]:
    given = expansion.input
    include: list[str] = given.get("include") or []
    exclude: list[str] = given.get("exclude") or []
    ranged = "pages" in expansion.options
    after, ordinal = str(expansion.cursor.get("after", "")), int(expansion.cursor.get("ordinal", 0))
    items: list[NewItem] = []
    # Every `size` keys seen, matching or not: a lease and its cursor have to move on.
    for seen, info in enumerate(blobs.scan(given["bucket"], given["prefix"], start_after=after), 1):
        after = info.key
        if matches(info.key, include, exclude):
            items.append(
                NewItem(
                    ordinal,
                    info.bucket,
                    info.key,
                    info.etag,
                    info.version_id,
                    countable=ranged or countable(info.key),
                    size=info.size,
                )
            )
            ordinal += 1
        if seen % size == 0:
            yield Chunk(items, {"after": after, "ordinal": ordinal}, last=False)
            items = []
    yield Chunk(items, {"after": after, "ordinal": ordinal}, last=True)


def matches(key: str, include: list[str], exclude: list[str]) -> bool:
    """Whether the globs choose the key; without any, they do."""
    if include and not any(fnmatchcase(key, glob) for glob in include):
        return False
    return not any(fnmatchcase(key, glob) for glob in exclude)


def _manifest(blobs: Blobs, expansion: Expansion, size: int) -> Generator[Chunk]:
    """Lines are numbered from 1; the number of an item's first line less one is its ordinal."""
    bucket, key = expansion.input["bucket"], expansion.input["key"]
    cursor, ranged = expansion.cursor, "pages" in expansion.options
    with blobs.stream(bucket, key, offset=manifests.start(cursor), etag=cursor.get("etag")) as stream:
        place, whole = Place.of(cursor, stream.info.etag), stream.info.size
        items: list[NewItem] = []
        found = manifests.read(stream.chunks, place, key, bucket, ranged=ranged, task=expansion.task)
        for number, one in enumerate(found, 1):
            if one is not None:
                items.append(one)
            if number % size == 0:
                part = None if place.gzip else place.offset / whole
                yield Chunk(items, place.cursor, last=False, part=part)
                items = []
        yield Chunk(items, place.cursor, last=True, part=1.0)
