"""Lines of text with their boxes, from every shape in which the model gives them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from worker.outputs import json_text

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 from 0 to 1000, x0 <= x1 and y0 <= y1."""
SCALE = 1000

_POINT = r"\(\s*\d{1,4}\s*,\s*\d{1,4}\s*\)"
_CHAIN = re.compile(rf"{_POINT}(?:\s*,\s*{_POINT})+")
_POINTS = re.compile(r"\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)")
_AFTER = re.compile(r"</ref>\s*<quad>([^<]*)</quad>")
_BEFORE = re.compile(r"<quad>((?:\s*<pos_\d+>)+)\s*</quad>\s*<ref>")
_META = re.compile(r"<hy-meta>\s*<layout>([^<]*)</layout>\s*<(quad|poly)>([^<]*)</\2>\s*</hy-meta>")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_JSON = re.compile(
    r"""[^\[\]{}()<>"]*(?:\[\s*\][\s`]*\Z|(?:\[\s*)?\{\s*["'](?:b?box|text|layout_type|label)["'])"""
)
_JSON_TEXT = re.compile(r'"text"\s*:\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of the answer; `span` is where its text stands in it, None where that cannot be told."""

    text: str
    box: Box | None
    """None: the model gave no coordinates, or none that can be read."""
    label: str | None = None
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Spotted:
    """What an answer holds, in its own order."""

    found: list[Found]
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class _Mark:
    """Coordinates, and where they stand."""

    start: int
    end: int
    box: Box | None
    label: str | None = None


def parse(text: str) -> Spotted | None:
    """The lines of an answer; None when it has none of the shapes. Raises `json_text.NotJsonError`."""
    if _JSON.match(text):
        return _json(text)
    if "<hy-meta>" in text and _META.search(text):
        return layout(text)
    if _BEFORE.search(text):
        return Spotted(_after_heads(text))
    if _AFTER.search(text):
        return Spotted(_before_marks(text, [_quad_mark(found) for found in _AFTER.finditer(text)], "<ref>"))
    marks = list(_run_marks(text))
    return Spotted(_before_marks(text, marks)) if marks else None


def layout(text: str) -> Spotted | None:
    """The parts of a page with their labels; None when the answer has none."""
    if _JSON.match(text) and "layout_type" in text:
        return _json(text)
    marks = [
        _Mark(found.start(), found.end(), _box(_numbers(found[3])), found[1].strip() or None)
        for found in _META.finditer(text)
    ]
    return Spotted(_before_marks(text, marks)) if marks else None


def to_pixels(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The box in pixels of the page, inside it and at least one pixel wide and high."""
    x0, x1 = _side(box[0], box[2], width)
    y0, y1 = _side(box[1], box[3], height)
    return x0, y0, x1, y1


def _side(low: float, high: float, size: int) -> tuple[int, int]:
    low, high = (min(size, max(0, round(value * size / SCALE))) for value in (low, high))
    if low < high:
        return low, high
    return (low, low + 1) if low < size else (size - 1, size)


def _stripped(text: str, start: int, stop: int) -> tuple[int, int]:
    piece = text[start:stop]
    return stop - len(piece.lstrip()), start + len(piece.rstrip())


def _piece(text: str, start: int, stop: int, box: Box | None, label: str | None = None) -> Found:
    start, stop = _stripped(text, start, stop) if text[start:stop].strip() else (start, start)
    return Found(text[start:stop], box, label, (start, stop))


def _before_marks(text: str, marks: Sequence[_Mark], opening: str = "") -> list[Found]:
    """Each mark's text is all since the mark before it; text may so hold anything but a mark."""
    found: list[Found] = []
    at = 0
    for mark in marks:
        start = text.find(opening, at, mark.start)
        start = at if start < 0 else start + len(opening)
        found.append(_piece(text, start, mark.start, mark.box, mark.label))
        at = mark.end
    if text[at:].strip():
        found.append(_piece(text, at, len(text), None))
    return found


def _after_heads(text: str) -> list[Found]:
    heads = list(_BEFORE.finditer(text))
    found: list[Found] = []
    for head, limit in zip(heads, [*(head.start() for head in heads[1:]), len(text)], strict=True):
        stop = text.rfind("</ref>", head.end(), limit)
        found.append(_piece(text, head.end(), limit if stop < 0 else stop, _box(_numbers(head[1]))))
    return found


def _quad_mark(found: re.Match[str]) -> _Mark:
    return _Mark(found.start(), found.end(), _box(_numbers(found[1])))


def _run_marks(text: str) -> Iterator[_Mark]:
    for chain in _CHAIN.finditer(text):
        points = list(_POINTS.finditer(text, chain.start(), chain.end()))
        # Nothing beyond the scale can be a coordinate: it belongs to the text, with all that goes before it.
        beyond = [i for i, point in enumerate(points) if max(int(point[1]), int(point[2])) > SCALE]
        points = points[beyond[-1] + 1 :] if beyond else points
        count = len(points)
        if count < 2:
            continue
        # Three: the text ends with one, such as "P(1,2),". More than a box and no quadrilateral: the authors' own
        # scorer takes the first two for the box.
        first, last = {2: (0, 2), 3: (1, 3)}.get(count, (0, 2))
        if count >= 4 and _turns_back(points[:4]):
            last = 4
        yield _Mark(
            points[first].start(), chain.end(), _box(_numbers(" ".join(p[0] for p in points[first:last])))
        )


def _turns_back(points: Sequence[re.Match[str]]) -> bool:
    """Whether the third side runs against the first, as around a quadrilateral; of two boxes both run down right."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = ((int(p[1]), int(p[2])) for p in points)
    return (bx - ax) * (dx - cx) + (by - ay) * (dy - cy) < 0


def _numbers(text: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(text)]


def _box(numbers: Sequence[float]) -> Box | None:
    """Around two corners or four; None for anything else."""
    if len(numbers) not in (4, 8):
        return None
    across, down = numbers[::2], numbers[1::2]
    return min(across), min(down), max(across), max(down)


def _json(text: str) -> Spotted:
    repaired = False
    brackets = "[]" if re.match(r"[^{]*\[", text) else "{}"
    try:
        value, repaired = json_text.read(text, brackets)
    except json_text.NotJsonError:
        if brackets == "{}":
            raise
        value, repaired = json_text.leading(text), True
    items: list[Any] = value if isinstance(value, list) else [value]  # type: ignore[assignment]
    if not all(isinstance(item, dict) for item in items):
        raise json_text.NotJsonError("an entry of the array is no object")
    texts = [_text(item) for item in items]
    spans = [found.span(1) for found in _JSON_TEXT.finditer(text)]
    known = len(spans) == len(items)
    found = [
        Found(line, _box(_flat(item.get("box", item.get("bbox")))), _label(item), spans[i] if known else None)
        for i, (item, line) in enumerate(zip(items, texts, strict=True))
    ]
    return Spotted(found, repaired)


def _text(item: dict[str, Any]) -> str:
    value = item.get("text")
    return "" if value is None else str(value).strip()


def _label(item: dict[str, Any]) -> str | None:
    value = item.get("layout_type", item.get("label"))
    return value.strip() or None if isinstance(value, str) else None


def _flat(value: Any) -> list[float]:  # noqa: ANN401 (any JSON value)
    if isinstance(value, str):
        return _numbers(value)
    if isinstance(value, list):
        entries: list[Any] = value  # type: ignore[assignment]
        return [number for entry in entries for number in _flat(entry)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []
