"""Endless tails, by the model authors' own two rules, and when to stop one; the cells of tables are spared."""

import re

from ocrfleet.catalogue import TASKS, OutputKind

LOOP_FROM, LOOP_WINDOW, LOOP_UNIT, LOOP_TIMES = 4_000, 8_000, range(1, 257), 8
TRIM_FROM, TRIM_TIMES = 2_000, 10
MOST_REPEATS = 32
"""Of up to 64 tokens in a row: a line of dots that leads to a page number has fewer, a loop soon has more."""
MOST_REPEATS_IN_MARKDOWN = 128
"""Its tables have rows of empty cells."""
_CELLS = re.compile(r"</?(?:table|thead|tbody|tfoot|tr|td|th)\b[^<>]*>|\|", re.IGNORECASE)


def most_repeats(task: str) -> int | None:
    """How often a page of this task may repeat itself while it is written; None: without end."""
    if task == "table":
        return None  # one that is empty repeats its cells and nothing else
    in_markdown = TASKS[task].output is OutputKind.MARKDOWN
    return MOST_REPEATS_IN_MARKDOWN if in_markdown else MOST_REPEATS


def loops(text: str) -> bool:
    """Whether a text of 4,000 characters and more ends with a unit of at most 256, eight times and more."""
    if len(text) < LOOP_FROM:
        return False
    tail = text[-LOOP_WINDOW:]
    unit = _period(tail, LOOP_UNIT, LOOP_TIMES)
    return unit > 0 and _loop(tail, unit)


def trim(text: str) -> str | None:
    """A text of 2,000 characters and more that ends with a unit ten times and more, with one of them; else None."""
    length = len(text)
    if length < TRIM_FROM:
        return None
    unit = _period(text, range(2, length), TRIM_TIMES)
    if not unit or not _loop(text, unit):
        return None
    at = length - unit * TRIM_TIMES
    while at >= unit and text.startswith(text[length - unit :], at - unit):
        at -= unit
    return text[: at + unit]


def _period(text: str, units: range, times: int) -> int:
    """The length of the shortest unit that ends the text `times` times, or 0; a longer one only repeats it."""
    length, last = len(text), text[-1]
    for unit in range(units.start, min(units.stop, length // times + 1)):
        # The cheap look at one character spares copying for nearly all lengths.
        if text[length - 1 - unit] == last and text.endswith(text[length - unit :], 0, length - unit):
            span = unit * (times - 1)
            if text[length - span :] == text[length - span - unit : length - unit]:
                return unit
    return 0


def _loop(text: str, length: int) -> bool:
    """Whether the unit is one: blank ones are not, nor table cells with nothing but figures and signs."""
    unit = text[-length:]
    if not unit.strip():
        return False
    # The unit may begin inside a tag: two in a row hold each of its tags whole.
    twice = text[-2 * length :]
    return not _CELLS.search(twice) or any(char.isalpha() for char in _CELLS.sub("", _whole(twice)))


def _whole(text: str) -> str:
    """Without the halves of tags at both ends."""
    text = re.sub(r"\A[^<>]*>", "", text)
    return re.sub(r"<[^<>]*\Z", "", text)
