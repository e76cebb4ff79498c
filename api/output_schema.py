"""Whether a JSON Schema from a caller is one that an engine can be bound to, and costs no more than it should."""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import orjson
from jsonschema import Draft7Validator, Draft201909Validator, Draft202012Validator
from jsonschema.exceptions import SchemaError

from api.problems import refused

POINTER = "/output_schema"
MAX_DEPTH = 32
"""Of nested objects and arrays: each schema in a schema takes two."""
MAX_EXPANDED = 10_000
"""Subschemas that may have to be looked at for one value, its `$ref`s followed."""
_DRAFTS = {
    "https://json-schema.org/draft/2020-12/schema": Draft202012Validator,
    "https://json-schema.org/draft/2019-09/schema": Draft201909Validator,
    "http://json-schema.org/draft-07/schema": Draft7Validator,
}
_ELSEWHERE = ("$dynamicRef", "$recursiveRef")
_BY_NAME = ("dependentSchemas", "dependencies")
_SAME_VALUE = ("not", "if", "then", "else", "allOf", "anyOf", "oneOf", *_BY_NAME)
"""Keywords whose subschemas look at the very value that the schema around them looks at."""


class _Expanded(NamedTuple):
    schemas: int
    way: int
    """The most schemas that follow one another."""


_BEGUN = _Expanded(0, 0)
_Seen = dict[int, _Expanded]


def check(schema: dict[str, Any], limit: int) -> dict[str, Any]:
    """The schema as it is kept; ValidationFailed with where and what is wrong with it."""
    try:
        packed = orjson.dumps(schema)
    except TypeError as exc:
        raise refused((POINTER, f"cannot be kept as JSON: {exc}")) from exc
    if len(packed) > limit:
        detail = f"may have {limit} bytes as compact JSON, it has {len(packed)}"
        raise refused((POINTER, detail), limit=limit, actual=len(packed))
    if b"\\u0000" in packed:
        raise refused((POINTER, "must not contain NUL characters"))
    kept: dict[str, Any] = orjson.loads(packed)
    schemas = list(_walk(kept, POINTER, MAX_DEPTH))
    _check_keywords(kept)
    if kept.get("type") != "object" or not kept.get("properties"):
        raise refused((POINTER, 'must be of "type": "object" and have "properties"'))
    for pointer, one in schemas:
        _check_references(kept, one, pointer)
    seen: _Seen = {}
    for pointer, one in schemas:
        _expand(kept, one, pointer, seen)
    return kept


def _check_keywords(schema: dict[str, Any]) -> None:
    name: object = schema.get("$schema", next(iter(_DRAFTS)))
    draft = _DRAFTS.get(name.rstrip("#")) if isinstance(name, str) else None
    if draft is None:
        raise refused((f"{POINTER}/$schema", f"may be {', '.join(_DRAFTS)}"))
    try:
        draft.check_schema(schema)
    except SchemaError as exc:
        pointer = "".join(f"/{_escaped(part)}" for part in exc.absolute_path)
        raise refused((POINTER + pointer, f"is no JSON Schema: {exc.message}")) from exc


def _walk(value: object, pointer: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object in it with its place: schemas, and some that only hold schemas or data."""
    if not isinstance(value, dict | list):
        return
    if depth == 0:
        raise refused((pointer, f"is nested deeper than {MAX_DEPTH} levels"), limit=MAX_DEPTH)
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        yield pointer, members
        parts = members.items()
    else:
        parts = enumerate(cast("list[object]", value))
    for name, part in parts:
        yield from _walk(part, f"{pointer}/{_escaped(name)}", depth - 1)


def _check_references(root: dict[str, Any], schema: dict[str, Any], pointer: str) -> None:
    # A regular expression may take for ever, and would hold up every page of its worker.
    if isinstance(schema.get("pattern"), str):
        raise refused((f"{pointer}/pattern", "is not supported; use enum, format or maxLength"))
    if isinstance(schema.get("patternProperties"), dict) and not pointer.endswith("/properties"):
        raise refused((f"{pointer}/patternProperties", "is not supported; name the properties"))
    for name in _ELSEWHERE:
        if isinstance(schema.get(name), str):
            raise refused((f"{pointer}/{name}", "only $ref is supported"))
    if schema is not root and isinstance(schema.get("$id"), str):
        raise refused((f"{pointer}/$id", "only the whole schema may have one"))
    reference = schema.get("$ref")
    if isinstance(reference, str) and not isinstance(_find(root, reference), dict | bool):
        raise refused((f"{pointer}/$ref", f"{reference!r} is no place of this schema, such as #/$defs/name"))


def _find(root: object, reference: str) -> object:
    """What a local reference points to, or None; nothing is ever fetched."""
    start, *parts = reference.split("/")
    found = root if start == "#" else None
    for part in parts:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = cast("dict[str, object]", found).get(name)
        elif isinstance(found, list) and name.isdecimal():
            items = cast("list[object]", found)
            found = items[int(name)] if int(name) < len(items) else None
        else:
            return None
    return found


def _expand(
    root: dict[str, Any], schema: dict[str, Any], pointer: str, seen: _Seen, way: int = 1
) -> _Expanded:
    """The schemas that look at the value that this one looks at; without end, or too many, they are refused."""
    known = seen.get(id(schema))
    if known is None:
        if way > MAX_DEPTH:
            raise refused((pointer, f"refers over more than {MAX_DEPTH} schemas"), limit=MAX_DEPTH)
        seen[id(schema)] = _BEGUN
        parts = [_expand(root, part, pointer, seen, way + 1) for part in _same_value(root, schema)]
        known = _Expanded(
            1 + sum(part.schemas for part in parts), 1 + max((part.way for part in parts), default=0)
        )
        seen[id(schema)] = known
    if known is _BEGUN:
        raise refused((pointer, "refers to itself without end"))
    if known.schemas > MAX_EXPANDED or known.way > MAX_DEPTH:
        detail = f"refers to more than {MAX_EXPANDED} schemas, or over more than {MAX_DEPTH}"
        raise refused((pointer, detail), limit=MAX_EXPANDED)
    return known


def _same_value(root: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    reference = schema.get("$ref")
    candidates: list[object] = [_find(root, reference)] if isinstance(reference, str) else []
    for keyword in _SAME_VALUE:
        part: object = schema.get(keyword)
        if isinstance(part, list):
            candidates += cast("list[object]", part)
        elif isinstance(part, dict) and keyword in _BY_NAME:
            candidates += cast("dict[str, object]", part).values()
        else:
            candidates.append(cast("object", part))
    return (cast("dict[str, Any]", part) for part in candidates if isinstance(part, dict))


def _escaped(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
