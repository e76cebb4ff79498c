"""A page as vLLM is given it: scaled once, by us, to a size that the model's own processor leaves as it is."""

import math
from dataclasses import dataclass

from PIL import Image

from ocrfleet.errors import ImageTooSmall
from worker.engines.base import Pixels
from worker.engines.scaling import sized

MAX_ASPECT = 200
"""The model's processor refuses a page whose sides differ by more."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What sizes the model takes; `max_pixels` is the smaller of its own limit and ours."""

    factor: int
    """Sides are multiples of it."""
    min_pixels: int
    max_pixels: int

    def fit(self, width: int, height: int, max_pixels: int | None = None) -> tuple[int, int]:
        """The size nearest to the page's own, by the rules of the processor; a page may ask for less than the limit."""
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise ImageTooSmall(
                f"the page is {width} x {height} pixels: one side may be {MAX_ASPECT} times the other",
                limit=MAX_ASPECT,
                actual=round(max(width, height) / min(width, height), 1),
            )
        limit = min(max_pixels or self.max_pixels, self.max_pixels)
        fitted = self._rounded(width), self._rounded(height)
        area = fitted[0] * fitted[1]
        if area < self.min_pixels <= limit:
            scale = math.sqrt(self.min_pixels / (width * height))
            fitted = self._up(width * scale), self._up(height * scale)
            area = fitted[0] * fitted[1]
        if area > limit:
            scale = math.sqrt(limit / (width * height))
            fitted = self._down(width * scale), self._down(height * scale)
        # A strip's short side cannot be under one factor: its long side gives way, and rounding may not stretch it.
        short = min(fitted)
        longest = min(MAX_ASPECT * short, max(self.factor, limit // short // self.factor * self.factor))
        return min(fitted[0], longest), min(fitted[1], longest)

    def _rounded(self, side: float) -> int:
        return max(1, round(side / self.factor)) * self.factor

    def _up(self, side: float) -> int:
        return math.ceil(side / self.factor) * self.factor

    def _down(self, side: float) -> int:
        return max(1, math.floor(side / self.factor)) * self.factor


def prepare(pixels: Pixels, geometry: Geometry, max_pixels: int | None) -> Image.Image:
    """The page as an RGB image of a size that fits. Blocking, some tens of milliseconds."""
    return sized(pixels, lambda width, height: geometry.fit(width, height, max_pixels)).convert("RGB")
