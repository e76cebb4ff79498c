"""Images decoded to upright RGB.

A process that serves decodes nothing but plain JPEG and PNG (`decode_plain`). The other decoders, with their rare
formats, their Python loops and their bugs, run in `ocrfleet.sandbox`.
"""

import io
import math
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import cache
from typing import IO, Any, cast

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from pillow_heif.as_plugin import HeifImageFile

from ocrfleet.documents import HEAD_BYTES, Decoded, Limits, MediaType, sniff
from ocrfleet.errors import (
    CorruptFile,
    DecompressionBomb,
    FleetError,
    ImageTooSmall,
    TooManyPixels,
    UnsupportedMediaType,
    ValidationFailed,
)
from ocrfleet.pixels import upright_rgb

BOMB_RATIO = 1000
"""Deflate, the densest of our decoders, cannot expand further; a header that claims more lies."""
LOW_RESOLUTION_SIDE = 1000
"""Long side in pixels under which a page-shaped image reads badly: A4 at 85 dpi."""
LOW_RESOLUTION_ASPECT = 3
"""A longer strip is a cut-out line, not a page, and may be small."""
PLAIN_PIXELS = 20_000_000
"""A3 at 300 dpi has 17 million. Ten threads that decode as much at once stay within 3 GB."""
PLAIN_BYTES = 8 * 1024 * 1024
"""The parts of a JPEG or PNG are read by Python, and a larger file may have many millions of them."""
PLAIN_SCANS = 64
"""Each scan of a JPEG goes over the whole page again. Usual are 1 and about 10."""
_SIZE_SEEN = re.compile(r"\((\d+) pixels\)|size (\d+)x(\d+) exceeds")
"""What Pillow and libheif say when they have seen the size before we could ask for it."""
_TEXT_TOO_LARGE = "Decompressed data too large"
_ARENA_BLOCKS = 4
"""Blocks of 16 MB that Pillow keeps for the next image: page faults took half the time of a JPEG."""


# Loaded by the decoder of JPEG when it meets one, where a confined process may not be able to any more.
_ = MpoImagePlugin
# Each type goes straight to its one decoder: Pillow's own search would try formats that start other programs.
_OPENERS = cast(
    "dict[MediaType, Callable[[IO[bytes], str], Image.Image]]",
    {
        MediaType.JPEG: JpegImagePlugin.jpeg_factory,
        MediaType.PNG: PngImagePlugin.PngImageFile,
        MediaType.TIFF: TiffImagePlugin.TiffImageFile,
        MediaType.WEBP: WebPImagePlugin.WebPImageFile,
        MediaType.BMP: BmpImagePlugin.BmpImageFile,
        MediaType.GIF: GifImagePlugin.GifImageFile,
        MediaType.JPEG2000: Jpeg2KImagePlugin.Jpeg2KImageFile,
        MediaType.HEIF: HeifImageFile,
        MediaType.AVIF: AvifImagePlugin.AvifImageFile,
        MediaType.PPM: PpmImagePlugin.PpmImageFile,
    },
)


def decode_plain(data: bytes, limits: Limits) -> Decoded | None:
    """Decode a JPEG or PNG of ordinary size to upright RGB on white; None: it belongs in a sandbox.

    Raises a `FleetError` for what cannot be read, with `limit` and `actual` where a limit is the reason.
    """
    kind = sniff(data[:HEAD_BYTES])
    scans = data.count(b"\xff\xda") if kind is MediaType.JPEG else 1
    if kind not in (MediaType.JPEG, MediaType.PNG) or scans > PLAIN_SCANS or len(data) > PLAIN_BYTES:
        return None
    with foreign_errors(len(data), limits):
        image = _open(io.BytesIO(data), kind)
        plain = image.width * image.height <= PLAIN_PIXELS
        return _decode(image, len(data), limits) if plain else None


def decode_image(data: bytes, frame: int, limits: Limits) -> Decoded:
    """Decode a frame (from 0; only a TIFF has more than one) of any image, in a process that has little to lose."""
    return decode_file(io.BytesIO(data), sniff(data[:HEAD_BYTES]), len(data), frame, limits)


def decode_file(file: IO[bytes], kind: MediaType, size: int, frame: int, limits: Limits) -> Decoded:
    """`decode_image` of an open file of `size` bytes, whose type `sniff` has told."""
    with foreign_errors(size, limits):
        return _decode(_at(_open(file, kind), frame), size, limits)


def count_tiff(file: IO[bytes]) -> int:
    """Pages of a TIFF; every one of its directories is read."""
    return _frames(_open(file, MediaType.TIFF))


@contextmanager
def foreign_errors(size: int, limits: Limits) -> Generator[None]:
    """Translate what the decoders raise of a file of `size` bytes."""
    try:
        yield
    except FleetError:
        raise
    # Decoders raise anything on damaged input, from struct.error to NameError; this is the door they pass.
    except Exception as exc:
        raise _translated(exc, size, limits) from exc


def _translated(exc: Exception, size: int, limits: Limits) -> FleetError:
    if isinstance(exc, MemoryError):
        limit = limits.sandbox_memory
        return DecompressionBomb(
            f"The file needs more than the {limit} bytes of memory that it may have.", limit=limit
        )
    if found := _SIZE_SEEN.search(str(exc)):
        return _too_large("An image", math.prod(int(number) for number in found.groups("1")), size, limits)
    if _TEXT_TOO_LARGE in str(exc):
        limit = PngImagePlugin.MAX_TEXT_CHUNK
        return DecompressionBomb(f"A text of the file has more than {limit} bytes.", limit=limit)
    return CorruptFile(f"The file cannot be decoded: {exc or type(exc).__name__}")


@cache
def _keep_memory() -> None:
    cast("Any", Image.core).set_blocks_max(_ARENA_BLOCKS)


def _open(file: IO[bytes], kind: MediaType) -> Image.Image:
    if kind not in _OPENERS:
        raise UnsupportedMediaType(f"A file of type {kind} is not an image.")
    _keep_memory()
    return _OPENERS[kind](file, "")


def _at(image: Image.Image, frame: int) -> Image.Image:
    with suppress(EOFError):
        # Not counted first: that would read the directories of all pages for each of them.
        image.seek(frame if image.format == "TIFF" else -bool(frame))
        return image
    frames = _frames(image) if image.format == "TIFF" else 1
    detail = f"There is no page {frame + 1}; the file has {frames}."
    raise ValidationFailed(detail, limit=frames, actual=frame + 1)


def _frames(image: Image.Image) -> int:
    """Frames of an open image; GIF has no count in its header, so that 2 stands for several."""
    if isinstance(image, GifImagePlugin.GifImageFile):
        return 2 if image.is_animated else 1
    return int(getattr(image, "n_frames", 1))


def _decode(image: Image.Image, size: int, limits: Limits) -> Decoded:
    _check_size(image.width, image.height, size, limits)
    several = image.format != "TIFF" and _frames(image) > 1
    image.load()
    upright = upright_rgb(image)
    width, height = upright.size
    pixels = np.frombuffer(upright.tobytes(), np.uint8).reshape(height, width, 3)
    warnings = ["first_frame_only"] if several else []
    if max(width, height) < min(LOW_RESOLUTION_SIDE, LOW_RESOLUTION_ASPECT * min(width, height) + 1):
        warnings.append("low_resolution")
    return Decoded(pixels, tuple(warnings))


def _too_large(what: str, pixels: int, size: int, limits: Limits) -> FleetError:
    limit = limits.max_page_pixels
    error = DecompressionBomb if pixels > BOMB_RATIO * size else TooManyPixels
    return error(f"{what} has {pixels} pixels; the limit is {limit}.", limit=limit, actual=pixels)


def _check_size(width: int, height: int, size: int, limits: Limits) -> None:
    if width * height > limits.max_page_pixels:
        raise _too_large(f"A page of {width} x {height}", width * height, size, limits)
    if (side := min(width, height)) < limits.min_image_side:
        detail = f"{width} x {height}: each side must have at least {limits.min_image_side} pixels."
        raise ImageTooSmall(detail, limit=limits.min_image_side, actual=side)
