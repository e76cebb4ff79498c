"""Pages scaled down to what an engine takes."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from worker.engines.openai_messages import jpeg
from worker.engines.scaling import FACTOR, fit, grey_plane, image_of

sides = st.integers(1, 20_000)


def test_a_page_within_the_limit_keeps_its_size() -> None:
    assert fit(1240, 1754, 1240 * 1754) == (1240, 1754)
    assert fit(31, 7, 1024) == (31, 7)


def test_a4_at_200_dpi() -> None:
    assert fit(1654, 2339, 3_400_000) == (1536, 2176)


@given(width=sides, height=sides, max_pixels=st.integers(FACTOR * FACTOR, 10_000_000))
def test_what_is_scaled_has_sides_of_factors_within_the_limit(
    width: int, height: int, max_pixels: int
) -> None:
    fitted = fit(width, height, max_pixels)
    assert fitted[0] * fitted[1] <= max_pixels
    if width * height > max_pixels:
        assert fitted[0] % FACTOR == fitted[1] % FACTOR == 0
        # Each side loses less than one factor, but for strips.
        scale = math.sqrt(max_pixels / (width * height))
        if min(width, height) * scale >= FACTOR:
            assert width * scale - fitted[0] < FACTOR
            assert height * scale - fitted[1] < FACTOR


def test_what_is_written_on_a_scaled_page_stays_where_it_was() -> None:
    page = np.full((2000, 1000, 3), 255, np.uint8)
    page[1000:1500, 500:] = (255, 0, 0)
    image = image_of(page, 500_000)
    assert image.size == (480, 992)
    assert image.getpixel((360, 620)) == (255, 0, 0)
    assert image.getpixel((120, 620)) == (255, 255, 255)


def test_a_page_without_colour_becomes_grey() -> None:
    plane = np.random.default_rng(1).integers(0, 255, (70, 50), np.uint8)
    rgb = np.repeat(plane[:, :, None], 3, axis=2)
    view = np.broadcast_to(plane[:, :, None], (70, 50, 3))
    for page in (rgb, view):
        found = grey_plane(page)
        assert found is not None
        assert (found == plane).all()
        assert image_of(page, 10_000).mode == "L"


@pytest.mark.parametrize(("row", "channel"), [(0, 0), (17, 1), (69, 2)])
def test_a_single_pixel_of_colour_is_colour(row: int, channel: int) -> None:
    page = np.full((70, 50, 3), 200, np.uint8)
    page[row, 49, channel] = 199
    assert grey_plane(page) is None
    assert image_of(page, 10_000).mode == "RGB"


def test_a_jpeg_is_close_to_its_page() -> None:
    page = np.full((64, 96, 3), 255, np.uint8)
    page[20:40, 30:60] = 0
    decoded = np.asarray(Image.open(io.BytesIO(jpeg(page, 10_000)))).astype(int)
    assert decoded.shape == (64, 96)
    assert np.abs(decoded - page[:, :, 0]).max() < 40
