"""Images of every mode and orientation become upright RGB on white."""

from typing import Any

import numpy as np
import pytest
from files import corner, encoded
from PIL import Image

from ocrfleet.documents import Decoded, Limits
from ocrfleet.images import decode_image
from ocrfleet.settings import Settings


def decode(data: bytes) -> Decoded:
    return decode_image(data, 0, Limits.of(Settings()))


def as_array(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_gives_the_same_upright_pixels(orientation: int, kind: str) -> None:
    upright = Image.fromarray(np.kron(np.arange(96).reshape(12, 8) * 2, np.ones((8, 8))).astype(np.uint8))
    turns = [None, *(Image.Transpose(turn) for turn in (0, 3, 1, 5, 2, 6, 4))]
    turn = turns[orientation - 1]
    stored = upright.transpose(turn) if turn is not None else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {})
    decoded = decode(encoded(stored, kind, exif=exif, **options))
    assert decoded.pixels.shape == (96, 64, 3)
    assert np.abs(decoded.pixels.astype(int) - as_array(upright)).max() <= 1


# Pillow warns of the damage, as it should.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_block_costs_nothing() -> None:
    data = encoded(corner(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert decode(data).pixels.shape == (40, 60, 3)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_deep_grey_is_scaled_and_not_clipped(bits: int, kind: str) -> None:
    ramp = np.linspace(0, 2**bits - 1, 64, dtype=np.uint16)
    ramp = np.tile(ramp, (8, 1))
    row = decode(encoded(Image.fromarray(ramp), kind)).pixels[0, :, 0].astype(int)
    assert row[0] == 0
    assert row[-1] == 255
    assert np.abs(row - np.linspace(0, 255, 64)).max() <= 1


@pytest.mark.parametrize("top", [1.0, 255.0, 1023.0])
def test_float_images_are_scaled_by_their_range(top: float) -> None:
    ramp = np.linspace(0, top, 64, dtype=np.float32)
    ramp = np.tile(ramp, (8, 1))
    ramp[0, 0] = np.nan
    pixels = decode(encoded(Image.fromarray(ramp), "TIFF")).pixels.astype(int)
    assert np.abs(pixels[1:, :, 0] - ramp[1:] * 255 / top).max() <= 1


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("RGBA", "WEBP"),
        ("RGBA", "TIFF"),
        ("PA", "PNG"),
        ("RGBA", "AVIF"),
        ("P", "GIF"),
    ],
)
def test_what_is_transparent_becomes_white(mode: str, kind: str) -> None:
    image = Image.new("RGBA", (32, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 16, 16))
    if mode == "PA":
        data = encoded(image.quantize(4), "PNG")
    elif mode == "P":
        data = encoded(image, "GIF")
    else:
        data = encoded(image.convert(mode), kind)
    pixels = decode(data).pixels
    assert pixels[8, 4].max() < 10
    assert pixels[8, 28].min() > 245


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_paper_white_and_ink_black(kind: str) -> None:
    image = Image.new("CMYK", (32, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 16, 16))
    pixels = decode(encoded(image, kind)).pixels
    assert pixels[8, 4].max() < 10
    assert pixels[8, 28].min() > 245


def test_lab_is_converted() -> None:
    image = Image.merge("LAB", [Image.new("L", (16, 16), value) for value in (255, 128, 128)])
    assert decode(encoded(image, "TIFF")).pixels.min() > 245


def test_bilevel_fax_pages_decode() -> None:
    image = Image.new("1", (64, 32), 1)
    image.paste(0, (0, 0, 32, 32))
    pixels = decode(encoded(image, "TIFF", compression="group4")).pixels
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert pixels[0, 63].tolist() == [255, 255, 255]
