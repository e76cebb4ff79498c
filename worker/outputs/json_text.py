"""JSON as models write it: strict first, then repaired only where one reading alone is possible."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64
"""Deeper nesting is refused; the record's writer has a limit too."""
_INTEGERS = range(-(2**63), 2**64)
_REPAIRABLE = re.compile(r""""(?:[^"\\]|\\.)*"|('(?:[^'\\]|\\.)*')|(,)(?=\s*[\]}])""", re.DOTALL)
_OUTSIDE = re.compile(r"[\[\]{}\"]")


class NotJsonError(ValueError):
    """`position` is where in the text; the message says what was expected there."""

    def __init__(self, message: str, position: int = 0) -> None:
        super().__init__(message)
        self.position = position


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members and members[name] != value:
            raise NotJsonError(f"{name!r} has two values")
        members[name] = value
    return members


def _constant(name: str) -> Any:  # noqa: ANN401 (json's own signature)
    raise NotJsonError(f"{name} is not a JSON value")


def _integer(digits: str) -> int | str:
    # An account number of 25 digits would lose some as a float, and the record takes 64 bits.
    if len(digits) > 25:
        return digits
    number = int(digits)
    return number if number in _INTEGERS else digits


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise NotJsonError(f"{digits} is no finite number")
    return number


def _decoder(*, strict: bool) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_pairs,
        parse_constant=_constant,
        parse_int=_integer,
        parse_float=_float,
        strict=strict,
    )


_STRICT = _decoder(strict=True)
_LENIENT = _decoder(strict=False)
"""Takes line ends inside strings."""


def strict(text: str) -> Any:  # noqa: ANN401 (any JSON value)
    """The value; numbers of more than 64 bits stay text. Raises NotJsonError."""
    return _decode(text, _STRICT)


def _decode(text: str, decoder: json.JSONDecoder) -> Any:  # noqa: ANN401 (any JSON value)
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as exc:
        raise NotJsonError(exc.msg, exc.pos) from exc
    except RecursionError as exc:
        raise NotJsonError("it is nested too deep") from exc
    if not _shallow(value, MAX_DEPTH):
        raise NotJsonError(f"it is nested deeper than {MAX_DEPTH} levels")
    return value


def _shallow(value: Any, levels: int) -> bool:  # noqa: ANN401 (any JSON value)
    if isinstance(value, dict):
        members: dict[str, Any] = value  # type: ignore[assignment]
        return levels > 0 and all(_shallow(member, levels - 1) for member in members.values())
    if isinstance(value, list):
        entries: list[Any] = value  # type: ignore[assignment]
        return levels > 0 and all(_shallow(entry, levels - 1) for entry in entries)
    return True


def read(text: str, brackets: str) -> tuple[Any, bool]:
    """The value between the outermost `{}` or `[]`, and whether it took a repair. Raises NotJsonError.

    Repaired are: a code fence or words around it, trailing commas, single quotes, line ends in strings. A value that was cut off is not.
    """
    try:
        return strict(text), False
    except NotJsonError as exc:
        first = exc
    start, stop = text.find(brackets[0]), text.rfind(brackets[1]) + 1
    if not 0 <= start < stop or not _alone(text[:start], text[stop:]):
        raise first
    for candidate in (text[start:stop], relaxed(text[start:stop])):
        try:
            return _decode(candidate, _LENIENT), True
        except NotJsonError:
            continue
    raise first


def _alone(before: str, after: str) -> bool:
    """Whether what stands around a value can only be talk, not the rest of a larger value that was cut."""
    return not _OUTSIDE.search(before) and not _OUTSIDE.search(after) and not after.lstrip().startswith(",")


def relaxed(text: str) -> str:
    """Without trailing commas, and with double quotes for single ones; what was misread so is no JSON then."""
    return _REPAIRABLE.sub(_repaired, text)


def _repaired(found: re.Match[str]) -> str:
    if found[2]:
        return ""
    if not found[1]:
        return found[0]
    inner = found[1][1:-1].replace("\\'", "'")
    return '"' + re.sub(r'(\\.)|"', lambda quote: quote[1] or '\\"', inner) + '"'


def leading(text: str) -> list[Any]:
    """The whole entries of an array that was cut off inside its last one. Raises NotJsonError."""
    at = text.find("[") + 1
    entries: list[Any] = []
    for value, end in _entries(text, at):
        entries.append(value)
        at = end
    if not entries or "}" in text[at:]:
        raise NotJsonError("an entry of the array cannot be read", at)
    return entries


def _entries(text: str, at: int) -> Iterator[tuple[Any, int]]:
    while True:
        while at < len(text) and (text[at].isspace() or text[at] == ","):
            at += 1
        try:
            value, at = _STRICT.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield value, at
