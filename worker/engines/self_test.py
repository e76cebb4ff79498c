"""Whether pages that are read together get their own texts: asked of an engine at every start, before it reads any.

The known failure gives one page's text for another without a word, and only when several share a step of the encoder.
"""

import itertools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ocrfleet.errors import EngineUnfit
from worker.engines.base import Pixels

TOKENS = 64
MAX_DISTANCE = 0.05
"""Of the tokens alone, where a GPU rounds otherwise in company."""
Tokens = Sequence[int]

_SIZES = ((640, 448), (448, 640), (576, 576), (736, 384), (384, 704), (512, 480))
_WORDS = (
    "harbour",
    "invoice",
    "meadow",
    "quartz",
    "lantern",
    "violin",
    "glacier",
    "saffron",
    "orchard",
    "pelican",
)


class Subject(Protocol):
    """An engine that can be tested so."""

    @property
    def exact(self) -> bool:
        """Whether what a page gives may not depend on its company at all."""
        ...

    async def first_tokens(self, page: Pixels, count: int) -> Tokens:
        """Greedy, from the page alone: up to so many tokens."""
        ...

    async def first_tokens_together(self, pages: Sequence[Pixels], count: int) -> Sequence[Tokens]:
        """The same of several pages that the engine takes in one step."""
        ...


async def prove(subject: Subject) -> None:
    """`EngineUnfit` says what was seen."""
    pages = draw()
    alone = [await subject.first_tokens(page, TOKENS) for page in pages]
    together = await subject.first_tokens_together(pages, TOKENS)
    judge(alone, together, exact=subject.exact)


def judge(alone: Sequence[Tokens], together: Sequence[Tokens], *, exact: bool) -> None:
    """`EngineUnfit` if a page read in company has not its own text."""
    if any(list(a) == list(b) for a, b in itertools.combinations(alone, 2)):
        raise EngineUnfit(
            "self-test: different pages gave the same text, so that nothing can be told from it"
        )
    for number, (own, seen) in enumerate(zip(alone, together, strict=True)):
        far = distance(own, seen)
        if exact and far > 0:
            raise EngineUnfit(
                f"self-test: page {number} read together differs from itself alone by {far:.0%}"
            )
        nearest = min(distance(other, seen) for i, other in enumerate(alone) if i != number)
        if far >= nearest:
            raise EngineUnfit(
                f"self-test: page {number} read together is as near to another page ({nearest:.0%}) "
                f"as to itself alone ({far:.0%})"
            )
        if far > MAX_DISTANCE:
            raise EngineUnfit(
                f"self-test: page {number} read together differs from itself alone by {far:.0%}, "
                f"and {MAX_DISTANCE:.0%} is the limit"
            )


def distance(a: Tokens, b: Tokens) -> float:
    """Insertions, deletions and replacements from one to the other, as a share of the longer."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1] / max(len(a), len(b), 1)


def draw() -> list[Pixels]:
    """Pages of different sizes, with nothing in common that a model would write."""
    return [_page(number, width, height) for number, (width, height) in enumerate(_SIZES)]


def _page(number: int, width: int, height: int) -> Pixels:
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    for line in range(4):
        words = (_WORDS[(number + line * 3 + step) % len(_WORDS)] for step in range(2))
        text = f"{' '.join(words)} {(number + 1) * 7919 * (line + 3) % 100_000}"
        pen.text((16, 16 + 48 * line + 8 * number), text, "black", ImageFont.load_default(28))
    pen.rectangle(
        (16, height - 60 - 6 * number, width // (number + 2), height - 16), fill=(40 * number, 90, 160)
    )
    return np.asarray(image)
