"""Pages are scaled once: by us, to sizes that the model's own processor leaves as they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MAX_PIXELS
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image
from transformers.models.hunyuan_vl.image_processing_hunyuan_vl import HunYuanVLImageProcessor, smart_resize

from worker.engines.vllm_core import geometry_of
from worker.engines.vllm_pages import MAX_ASPECT, Geometry, prepare

PUBLISHED = Geometry(factor=32, min_pixels=512 * 512, max_pixels=3_400_000)
sides = st.integers(1, 6000)


def stays(size: tuple[int, int], geometry: Geometry) -> bool:
    """Whether the processor, told of our cap as the engine tells it, takes the size as it is."""
    width, height = size
    seen = smart_resize(
        height, width, geometry.factor, min_pixels=geometry.factor**2, max_pixels=geometry.max_pixels
    )
    return seen == (height, width)


@given(sides, sides, st.one_of(st.none(), st.integers(40_000, 5_000_000)))
@examples(max_examples=2000)
def test_no_size_that_we_make_is_changed_again(width: int, height: int, limit: int | None) -> None:
    if max(width, height) > MAX_ASPECT * min(width, height):
        return
    for geometry in (PUBLISHED, Geometry(32, 64 * 64, MAX_PIXELS)):
        fitted = geometry.fit(width, height, limit)
        assert stays(fitted, geometry)
        assert fitted[0] * fitted[1] <= min(limit or geometry.max_pixels, geometry.max_pixels)


@given(sides, sides)
@examples(max_examples=500)
def test_without_a_limit_of_the_page_the_size_is_the_processors_own(width: int, height: int) -> None:
    if max(width, height) > 50 * min(width, height):
        return
    own = smart_resize(height, width, 32, min_pixels=PUBLISHED.min_pixels, max_pixels=PUBLISHED.max_pixels)
    if own[0] * own[1] <= PUBLISHED.max_pixels:
        assert PUBLISHED.fit(width, height) == (own[1], own[0])


@pytest.mark.parametrize("shape", [(480, 640), (100, 90), (3000, 2000), (40, 2000)])
def test_the_processor_sees_the_pixels_that_we_made(shape: tuple[int, int], checkpoint: Path) -> None:
    processor: Any = HunYuanVLImageProcessor.from_pretrained(checkpoint)
    geometry = geometry_of(processor, MAX_PIXELS)
    rng = np.random.default_rng(1)
    image = prepare(rng.integers(0, 256, (*shape, 3), np.uint8), geometry, None)
    size = {"shortest_edge": geometry.factor**2, "longest_edge": geometry.max_pixels}
    given = processor(images=[image], size=size, return_tensors="pt")
    untouched = processor(images=[image], do_resize=False, return_tensors="pt")
    assert (given["pixel_values"] == untouched["pixel_values"]).all()
    assert given["image_grid_thw"].tolist() == [[1, image.height // 16, image.width // 16]]


def test_a_page_without_colour_is_made_into_the_same_pixels() -> None:
    plane = np.random.default_rng(2).integers(0, 256, (300, 500), np.uint8)
    grey = np.repeat(plane[:, :, None], 3, axis=2)
    view = np.broadcast_to(plane[:, :, None], (300, 500, 3))
    geometry = Geometry(32, 64 * 64, MAX_PIXELS)
    assert np.array_equal(prepare(grey, geometry, None), prepare(view, geometry, None))
    assert prepare(view, geometry, None).mode == "RGB"


def test_a_page_that_fits_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (192, 256, 3), np.uint8)
    image = prepare(pixels, Geometry(32, 64 * 64, MAX_PIXELS), None)
    assert np.array_equal(np.asarray(image), pixels)
    assert isinstance(image, Image.Image)
