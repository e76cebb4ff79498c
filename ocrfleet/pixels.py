"""Whatever mode and orientation an image is stored in, turned into upright RGB on white."""

from contextlib import suppress
from typing import Any, cast

import numpy as np
from PIL import ExifTags, Image, ImageCms

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright_rgb(image: Image.Image) -> Image.Image:
    """The loaded image in mode RGB, turned by its EXIF orientation; the same object if there is nothing to do."""
    turn = _UPRIGHT.get(_orientation(image))
    rgb = _to_rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _orientation(image: Image.Image) -> int:
    # A damaged EXIF block costs the orientation, not the page.
    with suppress(Exception):
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _scale(image).convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        page = Image.new("RGB", image.size, "white")
        page.paste(layer, mask=layer)
        return page
    return image if image.mode == "RGB" else image.convert("RGB")


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    cms = cast("Any", ImageCms)
    return cms.profileToProfile(image, cms.createProfile("LAB"), cms.createProfile("sRGB"), outputMode="RGB")


def _scale(image: Image.Image) -> Image.Image:
    """Deep grey to 8 bits by the depth in use (floats up to 1.0; else 8, 9, … bits): `convert` would clip."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    values -= min(0.0, float(values.min()))
    peak = float(values.max())
    top = 1.0 if image.mode == "F" and peak <= 1.0 else 2.0 ** max(8, int(peak).bit_length()) - 1.0
    values *= 255.0 / top
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
