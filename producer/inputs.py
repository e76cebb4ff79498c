"""Reading a job's input in chunks: inline objects, the keys under a prefix, the lines of a manifest.

Each reader goes on from the cursor of the chunk before, so that a crash in the middle repeats and loses nothing.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

import orjson

from ocrfleet.blobs import Blobs
from ocrfleet.documents import COUNTED, guess
from ocrfleet.errors import ManifestInvalid
from ocrfleet.store.expansion import Expansion, NewItem

MAX_LINE = 64 * 1024
MAX_KEY = 1024
_OPTIONS = ("pages", "password")
"""How an object is opened; what is done with it is the job's."""
_MEMBERS = {"bucket", "key", "custom_id", "pages", "options", "etag", "version_id"}
_STRINGS = ("bucket", "custom_id", "pages", "etag", "version_id")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some items, and the cursor behind them."""

    items: list[NewItem]
    cursor: dict[str, Any]
    last: bool


def read(blobs: Blobs, expansion: Expansion, size: int) -> Generator[Chunk]:
    """The rest of the input, at most `size` items a chunk; the last chunk (it may be empty) says so."""
    match expansion.input["type"]:
        case "objects":
            return _objects(expansion, size)
        case "prefix":
            return _prefix(blobs, expansion, size)
        case _:
            return _manifest(blobs, expansion, size)


def _countable(key: str) -> bool:
    kind = guess(key)
    return kind is None or kind in COUNTED


def _item(ordinal: int, given: Mapping[str, Any], bucket: str, *, ranged: bool) -> NewItem:
    options = dict(given.get("options") or {})
    if given.get("pages"):
        options["pages"] = given["pages"]
    return NewItem(
        ordinal,
        given.get("bucket") or bucket,
        given["key"],
        given.get("etag"),
        given.get("version_id"),
        given.get("custom_id"),
        options or None,
        # A page range is checked against the page count, so the pages have to be counted.
        countable=ranged or "pages" in options or _countable(given["key"]),
    )


def _objects(expansion: Expansion, size: int) -> Generator[Chunk]:
    objects = expansion.input["objects"]
    start, ranged = int(expansion.cursor.get("next", 0)), "pages" in expansion.options
    while True:
        end = min(start + size, len(objects))
        items = [_item(n, objects[n], objects[n]["bucket"], ranged=ranged) for n in range(start, end)]
        yield Chunk(items, {"next": end}, last=end == len(objects))
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
        if _matches(info.key, include, exclude):
            countable = ranged or _countable(info.key)
            items.append(
                NewItem(ordinal, info.bucket, info.key, info.etag, info.version_id, countable=countable)
            )
            ordinal += 1
        if seen % size == 0:
            yield Chunk(items, {"after": after, "ordinal": ordinal}, last=False)
            items = []
    yield Chunk(items, {"after": after, "ordinal": ordinal}, last=True)


def _matches(key: str, include: list[str], exclude: list[str]) -> bool:
    if include and not any(fnmatchcase(key, glob) for glob in include):
        return False
    return not any(fnmatchcase(key, glob) for glob in exclude)


def _manifest(blobs: Blobs, expansion: Expansion, size: int) -> Generator[Chunk]:
    """Lines are numbered from 1; a line's number less one is its item's ordinal."""
    bucket, key = expansion.input["bucket"], expansion.input["key"]
    offset, line = int(expansion.cursor.get("offset", 0)), int(expansion.cursor.get("line", 0))
    with blobs.stream(bucket, key, offset=offset, etag=expansion.cursor.get("etag")) as stream:
        etag, ranged = stream.info.etag, "pages" in expansion.options
        items: list[NewItem] = []
        for raw, length in _lines(stream.chunks):
            line += 1
            offset += length
            if raw and not raw.isspace():
                items.append(parse_line(raw, line, bucket, ranged=ranged))
            if line % size == 0:
                yield Chunk(items, {"etag": etag, "offset": offset, "line": line}, last=False)
                items = []
        yield Chunk(items, {"etag": etag, "offset": offset, "line": line}, last=True)


def _lines(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, int]]:
    """Lines without their ends, and the bytes each takes; of an over-long one only the beginning is kept."""
    kept, length = b"", 0
    for chunk in chunks:
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            yield kept + line, length + len(line) + 1
            kept, length = b"", 0
        kept, length = (kept + rest)[: MAX_LINE + 1], length + len(rest)
    if length:
        yield kept, length


def parse_line(raw: bytes, line: int, bucket: str, *, ranged: bool = False) -> NewItem:
    """The item of a manifest's line; a malformed line is an item too, with its error."""
    try:
        return _item(line - 1, _checked(raw, line), bucket, ranged=ranged)
    except ManifestInvalid as exc:
        return NewItem(line - 1, bucket, f"line {line}", error=exc)


def _checked(raw: bytes, line: int) -> dict[str, Any]:
    if len(raw) > MAX_LINE:
        raise _invalid(line, f"is longer than {MAX_LINE} bytes", limit=MAX_LINE)
    try:
        given = orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
        orjson.dumps(given)  # deeper nesting can be read than written
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as exc:
        raise _invalid(line, f"is not JSON: {exc}") from exc
    # Of two backslashes the second is no escape.
    if b"\\u0000" in raw.replace(b"\\\\", b""):
        raise _invalid(line, "has a NUL character, which no record can hold")
    if not isinstance(given, dict):
        raise _invalid(line, "is not a JSON object")
    members = cast("dict[str, Any]", given)
    if fault := _fault(members):
        raise _invalid(line, fault)
    return members


def _fault(members: Mapping[str, Any]) -> str | None:
    """What is wrong with a line's members, if anything."""
    if not members.keys() <= _MEMBERS:
        unknown = sorted(members.keys() - _MEMBERS)[0]
        return f"has the unknown member {unknown!r}; known are {', '.join(sorted(_MEMBERS))}"
    key = members.get("key")
    if not isinstance(key, str) or not key or len(key) > MAX_KEY:
        return f"needs a `key` of 1 to {MAX_KEY} characters"
    for name in _STRINGS:
        if not isinstance(members.get(name, ""), str | None):
            return f"has a `{name}` that is no string"
    if not isinstance(members.get("options", {}), dict | None):
        return "has `options` that are no object"
    return _option_fault(members.get("options") or {})


def _option_fault(options: Mapping[str, Any]) -> str | None:
    if unknown := sorted(options.keys() - _OPTIONS):
        return f"has the unknown option {unknown[0]!r}; known are {', '.join(_OPTIONS)}"
    for name in _OPTIONS:
        if not isinstance(options.get(name, ""), str | None):
            return f"has an option `{name}` that is no string"
    return None


def _invalid(line: int, what: str, **extra: int) -> ManifestInvalid:
    return ManifestInvalid(f"line {line} {what}", line=line, **extra)
