"""Reading a job's input in chunks: inline objects, uploads, the keys under a prefix, the lines of a manifest.

Each reader goes on from the cursor of the chunk before, so that a crash in the middle repeats and loses nothing. The
producer expands jobs with it, and the API tells with it what a job would be.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from ocrfleet import manifests
from ocrfleet.archives import Member
from ocrfleet.blobs import Blobs
from ocrfleet.errors import BY_CODE
from ocrfleet.manifest_lines import countable, item
from ocrfleet.manifests import Place
from ocrfleet.rights import Rights, is_ours
from ocrfleet.s3 import BlobInfo
from ocrfleet.store.expansion import Expansion, NewItem

BEAT_SECONDS = 1.0
"""After which a chunk comes, be it empty: so the reader of a manifest can look at the time, and renew its lease."""
_UNNAMED = "(without a name)"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some items, and the cursor behind them."""

    items: list[NewItem]
    cursor: dict[str, Any]
    last: bool
    part: float | None = None
    """How much of the input is read now, from 0 to 1, where that is known."""


def read(blobs: Blobs, expansion: Expansion, size: int, *, beat: float = BEAT_SECONDS) -> Generator[Chunk]:
    """The rest of the input, at most `size` items a chunk; the last chunk (any may be empty) says so.

    A gzip'd manifest is skipped up to the cursor in empty chunks that don't move it.
    """
    match expansion.input["type"]:
        case "objects" | "uploads":
            return _objects(expansion, size)
        case "prefix":
            return _prefix(blobs, expansion, size)
        case _:
            return _manifest(blobs, expansion, size, beat)


def check(given: Mapping[str, Any], rights: Rights, *, ours: bool = False) -> None:
    """Raise InputAccessDenied for an input that the tenant may not read as a whole; its items are `permitted` one by one.

    `ours` lets manifests pass that the fleet itself keeps: those of batches, whoever submits is asked without it.
    """
    match given["type"]:
        case "prefix":
            rights.check_prefix(given["bucket"], given["prefix"])
        case "manifest" if not (ours and is_ours(given["bucket"], given["key"], rights.own)):
            rights.check_readable(given["bucket"], given["key"])
        case _:
            pass


def permitted(items: Sequence[NewItem], expansion: Expansion, rights: Rights) -> list[NewItem]:
    """The items that the job's tenant may read: a prefix passes over the others, whoever names one meets an error."""
    kept: list[NewItem] = []
    for one in items:
        if one.error is not None or rights.may_read(one.bucket, one.key):
            kept.append(one)
        elif expansion.input["type"] != "prefix":
            kept.append(replace(one, error=rights.refusal(one.bucket, one.key), countable=False))
    return kept


def member_item(ordinal: int, found: Member, archive: BlobInfo, *, ranged: bool) -> NewItem:
    """The item of a file in an archive; `ranged` says that a range of pages is asked for."""
    error = BY_CODE[found.code](found.detail, **found.extra) if found.code else None
    return NewItem(
        ordinal,
        archive.bucket,
        archive.key,
        archive.etag,
        archive.version_id,
        countable=error is None and (ranged or countable(found.name)),
        error=error,
        member=found.name or _UNNAMED,
        size=found.size,
    )


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


def _manifest(blobs: Blobs, expansion: Expansion, size: int, beat: float) -> Generator[Chunk]:
    """Lines are numbered from 1; the number of an item's first line less one is its ordinal."""
    bucket, key = expansion.input["bucket"], expansion.input["key"]
    cursor, ranged = expansion.cursor, "pages" in expansion.options
    with blobs.stream(bucket, key, offset=manifests.start(cursor), etag=cursor.get("etag")) as stream:
        place, whole = Place.of(cursor, stream.info.etag), stream.info.size
        items: list[NewItem] = []
        found = manifests.read(stream.chunks, place, key, bucket, ranged=ranged, task=expansion.task)
        due = time.monotonic() + beat
        for number, one in enumerate(found, 1):
            if one is not None:
                items.append(one)
            if number % size == 0 or time.monotonic() >= due:
                part = None if place.gzip else place.offset / max(1, whole)
                yield Chunk(items, place.cursor, last=False, part=part)
                items, due = [], time.monotonic() + beat
        yield Chunk(items, place.cursor, last=True, part=1.0)
