"""Which JPEGs can stand in a PDF as they are."""

import io
from typing import Any

import pytest
from PIL import Image

from producer.exports import jpeg


def made(mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (30, 20)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (made(), jpeg.Jpeg(30, 20, 3, None)),
        (made("L"), jpeg.Jpeg(30, 20, 1, None)),
        (made(progressive=True), jpeg.Jpeg(30, 20, 3, None)),
        (made(dpi=(300, 300)), jpeg.Jpeg(30, 20, 3, 300.0)),
        (made(exif=turned(1)), jpeg.Jpeg(30, 20, 3, None)),
        (made(exif=turned(6)), None),
        (made("CMYK"), None),
        (made(exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), None),
        (made()[:30], None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"", None),
        (b"\xff\xd8" + b"\xff\xe0\x00\x02" * 2000, None),
    ],
)
def test_only_what_every_viewer_shows_upright(data: bytes, expected: jpeg.Jpeg | None) -> None:
    found = jpeg.look(data)
    if expected is not None and expected.dpi is None and found is not None:
        found = jpeg.Jpeg(found.width, found.height, found.components, None)
    assert found == expected
