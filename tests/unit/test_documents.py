"""Files are known by their content, and every image ends as upright RGB on white or as a coded error."""

import random
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from files import FILES, corner, encoded, heif, noise, pdf, pdf_page, png_header, several
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocrfleet.documents import COUNTED, Decoded, Limits, MediaType, guess, parse_pages, sniff
from ocrfleet.errors import (
    CorruptFile,
    DecompressionBomb,
    EmptyFile,
    FleetError,
    ImageTooSmall,
    RetryClass,
    TooManyPixels,
    UnsupportedMediaType,
    ValidationFailed,
)
from ocrfleet.images import decode_image
from ocrfleet.settings import Settings

LIMITS = Limits.of(Settings())


def decode(data: bytes, frame: int = 0, **limits: Any) -> Decoded:
    return decode_image(data, frame, replace(LIMITS, **limits))


def outcome(data: bytes, **limits: Any) -> Decoded | FleetError:
    try:
        return decode(data, **limits)
    except FleetError as error:
        return error


def as_array(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("name", FILES)
def test_sniff_knows_every_accepted_type(name: str) -> None:
    data, kind = FILES[name]
    assert sniff(data[:2048]) is kind


@pytest.mark.parametrize("name", FILES)
def test_every_accepted_type_decodes_to_contiguous_rgb(name: str) -> None:
    data, _ = FILES[name]
    decoded = decode(data)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.shape == (40, 60, 3)
    assert decoded.pixels.flags.c_contiguous
    expected = as_array(corner().convert("L")) if "gm" in name or "endian" in name else as_array(corner())
    # Compared inside each block: lossy formats smear its edges.
    for y, x in ((5, 5), (30, 5), (5, 50), (30, 50)):
        assert np.abs(decoded.pixels[y, x].astype(int) - expected[y, x]).max() < 30


def test_sniff_finds_a_pdf_behind_leading_junk() -> None:
    assert sniff(b"%PDF-1.7\n") is MediaType.PDF
    assert sniff(b"HTTP/1.1 200 OK\r\n\r\n" + b"\0" * 1000 + b"%PDF-1.7") is MediaType.PDF
    with pytest.raises(UnsupportedMediaType):
        sniff(b" " * 1024 + b"%PDF-1.7")


def test_sniff_calls_a_jpeg_that_mentions_pdf_a_jpeg() -> None:
    assert sniff(b"\xff\xd8\xff\xe1 made from %PDF-1.4") is MediaType.JPEG


@pytest.mark.parametrize(
    "data", [b"BMW invoice, 14 pages", b"P1 is a file name", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\0"]
)
def test_sniff_refuses_what_only_resembles_an_accepted_type(data: bytes) -> None:
    with pytest.raises(UnsupportedMediaType):
        sniff(data)


def test_sniff_calls_nothing_an_empty_file() -> None:
    with pytest.raises(EmptyFile):
        sniff(b"")


def test_sniff_tells_video_from_heif() -> None:
    with pytest.raises(UnsupportedMediaType):
        sniff(b"\0\0\0\x18ftypisom\0\0\0\0isommp42")
    assert sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif") is MediaType.AVIF
    assert sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic") is MediaType.HEIF


def test_guess_goes_by_extension_only() -> None:
    assert guess("2026/Scan.PDF") is MediaType.PDF
    assert guess("a/b.tar.tif") is MediaType.TIFF
    assert guess("a.jpg/readme") is None
    assert guess("scan.docx") is None
    assert {MediaType.PDF, MediaType.TIFF} == COUNTED


def test_tiff_frames_are_pages() -> None:
    data = encoded(corner(), "TIFF", save_all=True, append_images=[noise(50, 30), corner((20, 80))])
    assert decode(data, 1).pixels.tobytes() == noise(50, 30).tobytes()
    assert decode(data, 2).pixels.shape == (80, 20, 3)
    assert "first_frame_only" not in decode(data).warnings
    with pytest.raises(ValidationFailed, match="no page 4"):
        decode(data, 3)


@pytest.mark.parametrize(
    "data",
    [
        several("GIF"),
        several("PNG"),
        several("WEBP", lossless=True),
        several("MPO"),
        several("AVIF"),
        heif(corner(), noise(60, 40)),
    ],
    ids=["gif", "apng", "webp", "mpo", "avif", "heif"],
)
def test_of_other_sequences_the_first_frame_is_read_and_a_warning_says_so(data: bytes) -> None:
    decoded = decode(data)
    assert "first_frame_only" in decoded.warnings
    assert np.abs(decoded.pixels[30, 50].astype(int) - 255).max() < 30
    with pytest.raises(ValidationFailed):
        decode(data, 1)


def test_pixels_are_counted_before_decoding() -> None:
    with pytest.raises(TooManyPixels) as error:
        decode(encoded(noise(100, 80), "PNG"), max_page_pixels=7999)
    assert error.value.extra == {"limit": 7999, "actual": 8000}
    with pytest.raises(DecompressionBomb) as error:
        decode(png_header(60_000, 50_000))
    assert error.value.extra == {"limit": LIMITS.max_page_pixels, "actual": 3_000_000_000}
    assert "60000 x 50000" in error.value.detail


def test_a_side_that_holds_no_text_is_refused() -> None:
    with pytest.raises(ImageTooSmall) as error:
        decode(encoded(noise(500, 3), "PNG"))
    assert error.value.extra == {"limit": 4, "actual": 3}


@pytest.mark.parametrize(
    ("size", "warned"),
    [
        ((700, 990), True),
        ((990, 700), True),
        ((707, 1000), False),
        ((900, 200), False),
        ((1654, 2339), False),
    ],
)
def test_small_pages_are_warned_of_and_cut_out_lines_are_not(size: tuple[int, int], *, warned: bool) -> None:
    decoded = decode(encoded(Image.new("L", size, 255), "PNG"))
    assert ("low_resolution" in decoded.warnings) is warned


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif", "bmp", "tiff", "jp2", "heif", "avif", "ppm"])
def test_half_a_file_is_corrupt(name: str) -> None:
    data = FILES[name][0]
    with pytest.raises(CorruptFile):
        decode(data[: len(data) // 2])


def test_pdf_pages_are_not_decoded_here() -> None:
    with pytest.raises(UnsupportedMediaType):
        decode(pdf(pdf_page()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_flipped_bytes_end_in_pixels_or_in_an_error_that_blames_the_file(name: str) -> None:
    data = FILES[name][0]
    chance = random.Random(name)  # noqa: S311 the same damage every time
    for _ in range(40):
        damaged = bytearray(data)
        for _ in range(4):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        end = outcome(bytes(damaged), max_page_pixels=1_000_000)
        assert isinstance(end, Decoded) or end.retry is RetryClass.NEVER


@given(st.binary(max_size=64))
def test_sniff_of_anything_is_a_type_or_a_coded_error(data: bytes) -> None:
    with suppress(EmptyFile, UnsupportedMediaType):
        assert sniff(data) in MediaType


def test_page_ranges_are_ascending_and_end_with_the_document() -> None:
    assert parse_pages("1-3,7", 10) == [1, 2, 3, 7]
    assert parse_pages(" 7, 2 - 3 ,3", 10) == [2, 3, 7]
    assert parse_pages("2-999999999", 4) == [2, 3, 4]


@pytest.mark.parametrize(
    "ranges", ["", ",", "0", "0-2", "3-2", "-1", "1-", "a", "1-2-3", "1;2", "١", "1" * 10]
)
def test_other_page_ranges_are_refused(ranges: str) -> None:
    with pytest.raises(ValidationFailed):
        parse_pages(ranges, 10)


def test_a_page_beyond_the_document_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValidationFailed) as error:
        parse_pages("1,12-14", 10)
    assert error.value.extra == {"limit": 10, "actual": 12}
