"""A page scaled down to what an engine takes; the pixels a model sees are what a page costs."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from worker.engines.base import Pixels

FACTOR = 32
"""The model's processor rounds sides to this; sides that are multiples of it are not resized a second time."""


def fit(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """The size of a page that has at most `max_pixels`: its own, or the largest of its shape with sides of `FACTOR`s."""
    if width * height <= max_pixels:
        return width, height
    scale = math.sqrt(max_pixels / (width * height))
    return _side(width * scale, height * scale, max_pixels), _side(height * scale, width * scale, max_pixels)


def _side(side: float, other: float, max_pixels: int) -> int:
    """Rounded down; a strip's short side cannot be under one factor, so its long side is bounded by what that leaves."""
    longest = max_pixels // FACTOR if other < FACTOR else side
    return max(FACTOR, int(min(side, longest)) // FACTOR * FACTOR)


def image_of(pixels: Pixels, max_pixels: int) -> Image.Image:
    """The page as an image of at most `max_pixels`: mode L where it has no colour, else RGB."""
    return sized(pixels, lambda width, height: fit(width, height, max_pixels))


def sized(pixels: Pixels, size_for: Callable[[int, int], tuple[int, int]]) -> Image.Image:
    """The page as an image of the size for its own width and height: mode L where it has no colour, else RGB."""
    plane = grey_plane(pixels)
    image = Image.fromarray(pixels if plane is None else plane)
    size = size_for(*image.size)
    if size == image.size:
        return image
    if size[0] * size[1] > image.width * image.height:
        return image.resize(size, Image.Resampling.BICUBIC)
    # Hamming is as sharp as bicubic when it scales down, at the cost of bilinear.
    return image.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)


def grey_plane(pixels: Pixels) -> Pixels | None:
    """(height, width) of a page without colour, else None. A page that is a view of one plane costs no look at it."""
    if pixels.strides[2] == 0:
        return pixels[:, :, 0]
    red = pixels[:, :, 0]
    # Most pages in colour show it in the first of these looks.
    for step in (16, 1):
        rows = pixels[::step]
        if not (
            np.array_equal(rows[:, :, 0], rows[:, :, 1]) and np.array_equal(rows[:, :, 0], rows[:, :, 2])
        ):
            return None
    return np.ascontiguousarray(red)
