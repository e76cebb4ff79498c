"""How sure the model was: the mean probability of its tokens, uncalibrated."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

LOW = 0.5
"""Below this mean of a page the result carries the warning `low_confidence`."""


class Confidence:
    """Means of exp(log-probability) over tokens; None wherever no token can be named."""

    def __init__(self, text: str, tokens: Sequence[tuple[str, float]]) -> None:
        self._probabilities = [math.exp(min(0.0, logprob)) for _, logprob in tokens if logprob == logprob]
        # Byte-level pieces of one character come as replacement characters, and then no place can be told.
        joined = "".join(piece for piece, _ in tokens)
        aligned = len(self._probabilities) == len(tokens) and joined.startswith(text)
        self._ends = list(accumulate(len(piece) for piece, _ in tokens)) if aligned else []

    def page(self, length: int | None = None) -> float | None:
        """Over all tokens, or those of the first `length` characters where that can be told."""
        if length is None or not self._ends:
            return _mean(self._probabilities)
        return self.of((0, length))

    def of(self, span: tuple[int, int] | None) -> float | None:
        """Over the tokens that hold a character from `span[0]` up to `span[1]` of the text."""
        if not self._ends or span is None or span[0] >= span[1]:
            return None
        first, last = bisect_right(self._ends, span[0]), bisect_left(self._ends, span[1])
        return _mean(self._probabilities[first : last + 1])


def _mean(values: Sequence[float]) -> float | None:
    return round(math.fsum(values) / len(values), 4) if values else None
