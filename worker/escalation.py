"""The escalation ladder: what the next attempt at a page does otherwise, by the codes of the attempts that failed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ocrfleet.catalogue import TASKS, Parameters, parameters_of
from ocrfleet.errors import (
    BY_CODE,
    EmptyOutput,
    EngineOom,
    InferenceTimeout,
    OutputInvalid,
    OutputTruncated,
    RepetitionLoop,
)
from ocrfleet.store.pages import ClaimedPage

PENALTY_STEP = 0.07
TEMPERATURE, TOP_P = 0.3, 0.95
PIXEL_STEP = 0.5
_OF_THE_TEXT = frozenset(e.code for e in (RepetitionLoop, OutputTruncated, OutputInvalid, EmptyOutput))
_OF_THE_SIZE = frozenset(e.code for e in (EngineOom, InferenceTimeout))
WHOLE_PAGE = frozenset({"parse", "layout_parse"})
"""Tasks whose last resort is the plain text."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an attempt does."""

    task: str
    parameters: Parameters


def plan(page: ClaimedPage, max_pixels: int) -> Plan:
    """What the page's next attempt does; `max_pixels` is what the engine takes of itself.

    Failures of the text climb: a higher penalty, then sampling, then fewer pixels and, for a whole page, plain text.
    Failures of the size only take pixels away.
    """
    if page.task not in TASKS:
        return Plan(page.task, Parameters())
    codes = charged(page)
    found = parameters_of(page.task, page.all_options)
    rung = sum(code in _OF_THE_TEXT for code in codes)
    if rung >= 1:
        found = replace(found, repetition_penalty=found.repetition_penalty + PENALTY_STEP)
    if rung >= 2:
        found = replace(found, temperature=TEMPERATURE, top_p=TOP_P)
    halved = sum(code in _OF_THE_SIZE for code in codes) + (rung >= 3)
    if halved:
        found = replace(found, max_pixels=round((found.max_pixels or max_pixels) * PIXEL_STEP**halved))
    # A figure-heavy page is at times answered with nothing but coordinates, however often it is asked.
    plain = page.task in WHOLE_PAGE and (rung >= 3 or OutputInvalid.code in codes)
    return Plan("text" if plain else page.task, found)


def charged(page: ClaimedPage) -> Sequence[str]:
    """The codes that its failure budget was charged for; those from before a redrive count no more."""
    codes = [code for code in page.codes if code in BY_CODE and not BY_CODE[code].free]
    return codes[len(codes) - page.failures :] if page.failures else ()
