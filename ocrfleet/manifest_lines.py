"""What a manifest's line, or an object given inline, says: checked, and made an item of a job."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from ocrfleet.catalogue import LANGUAGES, TASKS
from ocrfleet.documents import COUNTED, guess
from ocrfleet.errors import ManifestInvalid
from ocrfleet.store.expansion import NewItem

MAX_LINE = 64 * 1024
MAX_KEY = 1024
OPTIONS = ("pages", "password", "target_language", "prompt_language", "parameters", "cache", "regions")
"""How an object is read, over what the job says; what is done with it is the job's alone."""
MEMBERS = ("key", "bucket", "custom_id", "pages", "etag", "version_id")
COLUMNS = (*MEMBERS, "password", "target_language", "prompt_language")
"""Of a CSV."""
PARAMETERS: Mapping[str, tuple[type, float, float]] = {
    "temperature": (float, 0, 2),
    "top_p": (float, math.ulp(0.0), 1),
    "top_k": (int, -1, 1_000_000),
    "repetition_penalty": (float, 0.5, 2),
    "max_tokens": (int, 1, 32768),
    "max_pixels": (int, 262_144, 16_777_216),
}
"""Those of `options.parameters`: kind, least, most."""
_KNOWN = frozenset(MEMBERS) | {"options"}
_STRINGS = tuple(name for name in MEMBERS if name != "key")


def countable(key: str) -> bool:
    """Whether an object of this name has to be fetched to know its pages."""
    kind = guess(key)
    return kind is None or kind in COUNTED


def item(ordinal: int, given: Mapping[str, Any], bucket: str, *, ranged: bool) -> NewItem:
    """The item of members that have been checked; `ranged` says that the job asks for a range of pages."""
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
        countable=ranged or "pages" in options or countable(given["key"]),
    )


def broken(line: int, bucket: str, error: ManifestInvalid) -> NewItem:
    """The item of a line that cannot be read."""
    return NewItem(line - 1, bucket, f"line {line}", error=error)


def invalid(line: int, what: str, **extra: int) -> ManifestInvalid:
    """The error of a line, named by its number from 1."""
    return ManifestInvalid(f"line {line} {what}", line=line, **extra)


def parse_line(raw: bytes, line: int, bucket: str, *, ranged: bool = False, task: str = "") -> NewItem:
    """The item of a line of JSON; a malformed line is an item too, with its error."""
    try:
        return item(line - 1, _checked(raw, line, task), bucket, ranged=ranged)
    except ManifestInvalid as exc:
        return broken(line, bucket, exc)


def parse_row(
    cells: Sequence[str], columns: Sequence[str], line: int, bucket: str, *, ranged: bool, task: str
) -> NewItem:
    """The item of a CSV row, whose empty cells say nothing."""
    try:
        if len(cells) != len(columns):
            raise invalid(
                line, f"has {len(cells)} cells where the header has {len(columns)}", limit=len(columns)
            )
        given: dict[str, Any] = {
            name: cell for name, cell in zip(columns, cells, strict=True) if cell and name in MEMBERS
        }
        options = {
            name: cell for name, cell in zip(columns, cells, strict=True) if cell and name not in MEMBERS
        }
        members = given | ({"options": options} if options else {})
        if any("\0" in cell for cell in cells):
            raise invalid(line, "has a NUL character, which no record can hold")
        if fault := _fault(members, task):
            raise invalid(line, fault)
        return item(line - 1, members, bucket, ranged=ranged)
    except ManifestInvalid as exc:
        return broken(line, bucket, exc)


def _checked(raw: bytes, line: int, task: str) -> dict[str, Any]:
    if len(raw) > MAX_LINE:
        raise invalid(line, f"is longer than {MAX_LINE} bytes", limit=MAX_LINE)
    try:
        given = orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
        orjson.dumps(given)  # deeper nesting can be read than written
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as exc:
        raise invalid(line, f"is not JSON: {exc}") from exc
    # Of two backslashes the second is no escape.
    if b"\\u0000" in raw.replace(b"\\\\", b""):
        raise invalid(line, "has a NUL character, which no record can hold")
    if not isinstance(given, dict):
        raise invalid(line, "is not a JSON object")
    members = cast("dict[str, Any]", given)
    if fault := _fault(members, task):
        raise invalid(line, fault)
    return members


def _fault(members: Mapping[str, Any], task: str) -> str | None:
    """What is wrong with a line's members, if anything."""
    if not members.keys() <= _KNOWN:
        unknown = sorted(members.keys() - _KNOWN)[0]
        return f"has the unknown member {unknown!r}; known are {', '.join(sorted(_KNOWN))}"
    key = members.get("key")
    if not isinstance(key, str) or not key or len(key) > MAX_KEY:
        return f"needs a `key` of 1 to {MAX_KEY} characters"
    for name in _STRINGS:
        if not isinstance(members.get(name, ""), str | None):
            return f"has a `{name}` that is no string"
    options = members.get("options")
    if options is None:
        return None
    if not isinstance(options, dict):
        return "has `options` that are no object"
    return _option_fault(cast("dict[str, Any]", options), task)


def _option_fault(options: Mapping[str, Any], task: str) -> str | None:
    if unknown := sorted(options.keys() - OPTIONS):
        return f"has the unknown option {unknown[0]!r}; known are {', '.join(OPTIONS)}"
    for name in ("pages", "password"):
        if not isinstance(options.get(name, ""), str | None):
            return f"has an option `{name}` that is no string"
    for name in ("cache", "regions"):
        if not isinstance(options.get(name), bool | None):
            return f"has an option `{name}` that is neither true nor false"
    return _language_fault(options, task) or _parameter_fault(options.get("parameters"))


def _language_fault(options: Mapping[str, Any], task: str) -> str | None:
    for name in ("target_language", "prompt_language"):
        if options.get(name) not in (None, *LANGUAGES):
            return f"has an option `{name}` that is none of {', '.join(LANGUAGES)}"
    if options.get("target_language") and task in TASKS and "target_language" not in TASKS[task].takes:
        return f"has an option `target_language`, for which the task {task!r} has no use"
    return None


def _parameter_fault(given: object) -> str | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        return "has an option `parameters` that is no object"
    for name, value in cast("dict[str, object]", given).items():
        if name not in PARAMETERS:
            return f"has the unknown parameter {name!r}; known are {', '.join(PARAMETERS)}"
        kind, least, most = PARAMETERS[name]
        # A float may be written as 1; True is an int in Python only.
        fits = isinstance(value, (int, kind)) and not isinstance(value, bool)
        if value is not None and not (fits and least <= cast("float", value) <= most):
            return f"has a parameter `{name}` that is no number from {least:g} to {most:g}"
    return None
