"""Manifests as streams: lines of JSON or rows of CSV, gzip'd or not, read on from any place with flat memory."""

import csv
import zlib
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ocrfleet.errors import ManifestInvalid
from ocrfleet.manifest_lines import COLUMNS, MAX_LINE, broken, invalid, parse_line, parse_row
from ocrfleet.store.expansion import NewItem

_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_PIECE = 256 * 1024
"""Bytes inflated at a time, however small they were."""
LONGEST = 4 * 1024 * 1024
"""Bytes after which what has no end is no line that is too long, but no manifest."""
FREE = 256 * 1024 * 1024
"""Bytes that any gzip data may inflate to, whatever the ratio."""
RATIO = 250
"""Lines of keys inflate to some ten times their size; what inflates to a thousand times has nothing in it."""
_Line = tuple[bytes, int]
"""Without its end (of an over-long one only the beginning), and the bytes it takes: none if no line ends here yet."""


@dataclass(slots=True)
class Place:
    """How far a manifest has been read, and how it has to be read on."""

    etag: str
    offset: int = 0
    """Bytes behind us; of a gzip'd manifest, inflated ones."""
    line: int = 0
    """Lines behind us."""
    gzip: bool = False
    columns: tuple[str, ...] | None = None
    """Of a CSV; None: lines of JSON."""

    @classmethod
    def of(cls, cursor: Mapping[str, Any], etag: str) -> "Place":
        """The place that a cursor tells."""
        columns = cursor.get("columns")
        return cls(
            etag,
            int(cursor.get("offset", 0)),
            int(cursor.get("line", 0)),
            bool(cursor.get("gzip", False)),
            tuple(columns) if columns else None,
        )

    @property
    def cursor(self) -> dict[str, Any]:
        """For the record, as it comes back from there."""
        found: dict[str, Any] = {"etag": self.etag, "offset": self.offset, "line": self.line}
        if self.gzip:
            found["gzip"] = True
        if self.columns:
            found["columns"] = list(self.columns)
        return found


def start(cursor: Mapping[str, Any]) -> int:
    """From which byte of the object on a manifest is to be streamed: one that is gzip'd, from its first."""
    return 0 if cursor.get("gzip") else int(cursor.get("offset", 0))


def read(
    chunks: Iterator[bytes], place: Place, key: str, bucket: str, *, ranged: bool = False, task: str = ""
) -> Iterator[NewItem | None]:
    """Items from the place on, which moves along; None for a blank line, and for each piece in which no line ends.

    So the caller has its turn however much has to be skipped or inflated. `chunks` begin at `start`. ManifestInvalid:
    nothing more can be read (a header or gzip data that are damaged, or lines without end).
    """
    fresh = place.offset == 0
    if fresh:
        chunks, place.gzip = _recognized(chunks)
    if place.gzip:
        chunks = _behind(_inflated(chunks, place), place.offset)
    lines = _lines(chunks, place.line)
    if fresh:
        lines = yield from _headed(lines, place, key)
    if place.columns is None:
        for raw, length in lines:
            place.line += length > 0
            place.offset += length
            blank = not raw or raw.isspace()
            yield None if blank else parse_line(raw, place.line, bucket, ranged=ranged, task=task)
    else:
        yield from _table(lines, place, place.columns, bucket, ranged=ranged, task=task)


def _table(
    lines: Iterator[_Line], place: Place, columns: tuple[str, ...], bucket: str, *, ranged: bool, task: str
) -> Iterator[NewItem | None]:
    for line, found in _rows(lines, place):
        if isinstance(found, ManifestInvalid):
            yield broken(line, bucket, found)
        elif found is None:
            yield None
        else:
            yield parse_row(found, columns, line, bucket, ranged=ranged, task=task)


def _recognized(chunks: Iterator[bytes]) -> tuple[Iterator[bytes], bool]:
    """The same chunks, and whether they are gzip'd."""
    head = b""
    while len(head) < len(_GZIP) and (chunk := next(chunks, None)) is not None:
        head += chunk
    return chain([head], chunks), head.startswith(_GZIP)


def _inflated(chunks: Iterator[bytes], place: Place) -> Iterator[bytes]:
    """The bytes of all gzip members, a piece at a time."""
    inflate, begun = zlib.decompressobj(wbits=31), False
    packed = inflated = 0
    try:
        for chunk in chunks:
            data = chunk
            packed += len(data)
            while data:
                if inflate.eof:
                    inflate = zlib.decompressobj(wbits=31)
                begun = True
                yield (piece := inflate.decompress(data, _PIECE))
                inflated += len(piece)
                if inflated > (limit := max(FREE, RATIO * packed)):
                    what = f"cannot be read, the gzip data inflate to more than {limit} bytes"
                    raise invalid(place.line + 1, what, limit=limit, actual=inflated)
                data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        yield inflate.flush()
    except zlib.error as exc:
        raise invalid(place.line + 1, f"cannot be read, the gzip data are damaged: {exc}") from exc
    if begun and not inflate.eof:
        raise invalid(place.line + 1, "cannot be read, the gzip data end too early")


def _behind(chunks: Iterator[bytes], offset: int) -> Iterator[bytes]:
    """What comes behind so many bytes; each piece before it as nothing."""
    for chunk in chunks:
        yield chunk[offset:]
        offset = max(0, offset - len(chunk))


def _lines(chunks: Iterator[bytes], number: int) -> Iterator[_Line]:
    """Lines behind line `number`."""
    kept, length = b"", 0
    for chunk in chunks:
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            number += 1
            length += len(line) + 1
            _check_length(number, length - 1)
            yield (kept + line)[: MAX_LINE + 1] if kept else line, length
            kept, length = b"", 0
        kept, length = (kept + rest)[: MAX_LINE + 1], length + len(rest)
        _check_length(number + 1, length)
        if not lines:
            yield b"", 0
    if length:
        yield kept, length


def _check_length(number: int, length: int) -> None:
    if length > LONGEST:
        what = f"has no end after {LONGEST} bytes, so that this is no manifest"
        raise invalid(number, what, limit=LONGEST, actual=length)


def _headed(lines: Iterator[_Line], place: Place, key: str) -> Generator[None, None, Iterator[_Line]]:
    """The lines that hold items: of a CSV, those behind its header."""
    before: list[_Line] = []
    for raw, length in lines:
        if not length:
            yield
            continue
        before.append((raw, length))
        if content := raw.removeprefix(_BOM).strip():
            name = key.lower().removesuffix(".gz")
            place.columns = _columns(content, len(before), certain=name.endswith(".csv"))
            break
        if len(before) > 1000:
            # Blank lines without end are not kept to see what comes behind them.
            break
    if place.columns is None:
        return chain(before, lines)
    place.line, place.offset = len(before), sum(length for _, length in before)
    return lines


def _columns(header: bytes, line: int, *, certain: bool) -> tuple[str, ...] | None:
    """The columns that a CSV's header names; None if this is none, and need not be one."""
    if header.startswith(b"{") and not certain:
        return None
    cells = _cells(header)
    names = [] if isinstance(cells, str) else [cell.strip() for cell in cells]
    if "key" in names and len(set(names)) == len(names) and set(names) <= set(COLUMNS):
        return tuple(names)
    if not certain:
        return None
    raise invalid(
        line, f"is no header: it has to name `key`, and may name {', '.join(COLUMNS[1:])}, each once"
    )


def _rows(lines: Iterator[_Line], place: Place) -> Iterator[tuple[int, list[str] | ManifestInvalid | None]]:
    """(the line it begins at, a row's cells or its error; None where there is none); a quoted cell may have line ends.

    Behind a row whose quotes are wrong the next line is a row again: one stray quote swallows no other rows.
    """
    waiting: deque[_Line] = deque()
    while (first := _next(waiting, lines)) is not None:
        if not first[1]:
            yield place.line + 1, None
            continue
        taken = [first]
        open_quote, size = first[0].count(b'"') % 2, len(first[0])
        while open_quote and size <= MAX_LINE and (more := _next(waiting, lines)) is not None:
            if more[1]:
                taken.append(more)
                open_quote ^= more[0].count(b'"') % 2
                size += more[1]
        line = place.line + 1
        found = _row(b"\n".join(raw for raw, _ in taken), line, size)
        if isinstance(found, ManifestInvalid) and len(taken) > 1:
            waiting.extendleft(reversed(taken[1:]))
            del taken[1:]
        place.line += len(taken)
        place.offset += sum(length for _, length in taken)
        yield line, found


def _next(waiting: deque[_Line], lines: Iterator[_Line]) -> _Line | None:
    return waiting.popleft() if waiting else next(lines, None)


def _row(raw: bytes, line: int, size: int) -> list[str] | ManifestInvalid | None:
    if not raw or raw.isspace():
        return None
    if size > MAX_LINE:
        return invalid(
            line, f"is longer than {MAX_LINE} bytes, or a quote of it is not closed", limit=MAX_LINE
        )
    cells = _cells(raw)
    return invalid(line, cells) if isinstance(cells, str) else cells


def _cells(raw: bytes) -> list[str] | str:
    """The cells of a row (RFC 4180), or what is wrong with it."""
    try:
        text = raw.decode().removesuffix("\r")
        return next(csv.reader([text], strict=True), list[str]())
    except UnicodeDecodeError as exc:
        return f"is not UTF-8: {exc.reason} at byte {exc.start}"
    except csv.Error as exc:
        return f"is no row of a CSV: {exc}"
