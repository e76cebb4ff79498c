"""Inputs as pixels: what a file is by its content, how many pages were asked for, and images decoded to upright RGB.

PDF pages are rendered in `ocrfleet.sandbox`, never here: PDFium is not thread-safe and not to be trusted with our memory.
"""

import io
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from typing import IO, TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from pillow_heif.as_plugin import HeifImageFile

from ocrfleet.errors import (
    CorruptFile,
    DecompressionBomb,
    EmptyFile,
    FleetError,
    ImageTooSmall,
    TooManyPixels,
    UnsupportedMediaType,
    ValidationFailed,
)
from ocrfleet.pixels import upright_rgb

if TYPE_CHECKING:
    # Only a name for the type checker: the sandbox's processes start without pydantic.
    from ocrfleet.settings import Settings

Pixels = NDArray[np.uint8]
"""An upright page, (height, width, 3), RGB, C-contiguous; may be read-only."""

HEAD_BYTES = 2048
"""What `sniff` needs of a file."""
BOMB_RATIO = 1000
"""Deflate, the densest of our decoders, cannot expand further; a header that claims more lies."""
LOW_RESOLUTION_SIDE = 1000
"""Long side in pixels under which a page-shaped image reads badly: A4 at 85 dpi."""
LOW_RESOLUTION_ASPECT = 3
"""A longer strip is a cut-out line, not a page, and may be small."""
_ARENA_BLOCKS = 4
"""Blocks of 16 MB that Pillow keeps for the next image: page faults took half the time of a JPEG."""


class MediaType(StrEnum):
    """The accepted types; MPO is a JPEG."""

    JPEG = "jpeg"
    PNG = "png"
    TIFF = "tiff"
    WEBP = "webp"
    BMP = "bmp"
    GIF = "gif"
    JPEG2000 = "jpeg2000"
    HEIF = "heif"
    AVIF = "avif"
    PPM = "ppm"
    PDF = "pdf"


COUNTED = frozenset({MediaType.PDF, MediaType.TIFF})
"""Types whose pages are only known from the content; every other file is one page."""

_EXTENSIONS = {
    MediaType.JPEG: "jpg jpeg jpe jfif mpo",
    MediaType.PNG: "png apng",
    MediaType.TIFF: "tif tiff",
    MediaType.WEBP: "webp",
    MediaType.BMP: "bmp",
    MediaType.GIF: "gif",
    MediaType.JPEG2000: "jp2 j2k jpf jpx j2c jpc",
    MediaType.HEIF: "heic heif hif heics heifs",
    MediaType.AVIF: "avif avifs",
    MediaType.PPM: "ppm pgm pbm pnm pfm",
    MediaType.PDF: "pdf",
}
_BY_EXTENSION = {f".{name}": kind for kind, names in _EXTENSIONS.items() for name in names.split()}

_MAGIC = (
    (rb"\xff\xd8\xff", MediaType.JPEG),
    (rb"\x89PNG\r\n\x1a\n", MediaType.PNG),
    (rb"II[\x2a\x2b]\x00|MM\x00[\x2a\x2b]", MediaType.TIFF),
    (rb"GIF8[79]a", MediaType.GIF),
    (rb"RIFF.{4}WEBP", MediaType.WEBP),
    (rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", MediaType.JPEG2000),
    # AVIF first: `mif1` is the general brand that both families carry, `avif` among the others tells them apart.
    (rb".{4}ftyp(?:avi[fs]|m[is]f1.{4}(?:.{4})*?avi[fs])", MediaType.AVIF),
    (rb".{4}ftyp(?:hei[cxms]|hev[cxms]|m[is]f1)", MediaType.HEIF),
    # Two letters are no signature: also a known length of the header.
    (rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00", MediaType.BMP),
    (rb"P[1-6f]\s[\s#\d]", MediaType.PPM),
    # Readers accept anything before the header as long as it begins in the first 1024 bytes.
    (rb".{0,1023}?%PDF-", MediaType.PDF),
)
_MAGIC_PATTERNS = tuple((re.compile(pattern, re.DOTALL), kind) for pattern, kind in _MAGIC)

_Opener = Callable[[IO[bytes], str], Image.Image]
# Each type goes straight to its one decoder: Pillow's own search would try formats that start other programs.
_OPENERS = cast(
    "dict[MediaType, _Opener]",
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


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that bound what an input may cost; their meaning is in `Settings`."""

    max_page_pixels: int
    max_document_pages: int
    min_image_side: int
    render_timeout: float
    render_dpi: int
    render_max_pixels: int
    sandbox_memory: int

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """One page as pixels."""

    pixels: Pixels
    warnings: tuple[str, ...]
    frames: int
    """Pages found in the file; a GIF with several frames says 2."""


def sniff(head: bytes) -> MediaType:
    """The type of a file by its first `HEAD_BYTES`; raises `EmptyFile` or `UnsupportedMediaType`."""
    if not head:
        raise EmptyFile("The file has no bytes.")
    for pattern, kind in _MAGIC_PATTERNS:
        if pattern.match(head):
            return kind
    accepted = ", ".join(MediaType)
    raise UnsupportedMediaType(f"The file begins with {head[:12]!r}; accepted are {accepted}.")


def guess(key: str) -> MediaType | None:
    """The type its name claims, only to decide whether an object has to be fetched to be counted."""
    # Not pathlib: this is asked for every line of a manifest of millions.
    return _BY_EXTENSION.get(f".{key.rpartition('.')[2].lower()}")


def parse_pages(ranges: str, total: int) -> list[int]:
    """Page numbers of `1-3,7`, ascending, each once; a range may run over the end but not begin beyond it."""
    pages: set[int] = set()
    for part in ranges.split(","):
        found = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part, re.ASCII)
        if not found:
            raise ValidationFailed(f"{part.strip()!r} is not a page or a range of pages such as 1-3,7.")
        first, last = int(found[1]), int(found[2] or found[1])
        if not 1 <= first <= last:
            raise ValidationFailed(f"{part.strip()!r} does not count up from a page of at least 1.")
        if first > total:
            detail = f"{part.strip()!r} begins beyond the last page, {total}."
            raise ValidationFailed(detail, limit=total, actual=first)
        pages.update(range(first, min(last, total) + 1))
    return sorted(pages)


def decode_image(data: bytes, frame: int, limits: Limits) -> Decoded:
    """Decode a frame (from 0; only a TIFF has more than one) to upright RGB on white.

    Raises a `FleetError` for anything that cannot be read, with `limit` and `actual` where a limit is the reason.
    """
    return decode_file(io.BytesIO(data), sniff(data[:HEAD_BYTES]), len(data), frame, limits)


def decode_file(file: IO[bytes], kind: MediaType, size: int, frame: int, limits: Limits) -> Decoded:
    """`decode_image` of an open file of `size` bytes, whose type `sniff` has told."""
    _keep_memory()
    with foreign_errors():
        image = _open(file, kind)
        frames = count_frames(image)
        if not 0 <= frame < (frames if kind is MediaType.TIFF else 1):
            raise ValidationFailed(f"There is no page {frame + 1}; the file has {frames}.", limit=frames)
        if frame:
            image.seek(frame)
        _check_size(image.width, image.height, size, limits)
        image.load()
        upright = upright_rgb(image)
        width, height = upright.size
        pixels = np.frombuffer(upright.tobytes(), np.uint8).reshape(height, width, 3)
    warnings: list[str] = []
    if frames > 1 and kind is not MediaType.TIFF:
        warnings.append("first_frame_only")
    if max(width, height) < min(LOW_RESOLUTION_SIDE, LOW_RESOLUTION_ASPECT * min(width, height) + 1):
        warnings.append("low_resolution")
    return Decoded(pixels, tuple(warnings), frames)


def count_tiff(file: IO[bytes]) -> int:
    """Pages of a TIFF; every one of its directories is read."""
    with foreign_errors():
        return count_frames(_open(file, MediaType.TIFF))


def count_frames(image: Image.Image) -> int:
    """Frames of an open image; GIF has no count in its header, so that 2 stands for several."""
    if isinstance(image, GifImagePlugin.GifImageFile):
        return 2 if image.is_animated else 1
    return int(getattr(image, "n_frames", 1))


@contextmanager
def foreign_errors() -> Generator[None]:
    """Translate what the decoders raise."""
    try:
        yield
    except FleetError:
        raise
    except (MemoryError, Image.DecompressionBombError) as exc:
        raise DecompressionBomb(f"The file needs more memory than it may have. {exc}".strip()) from exc
    # Decoders raise anything on damaged input, from struct.error to NameError; this is the door they pass.
    except Exception as exc:
        raise CorruptFile(f"The file cannot be decoded: {exc or type(exc).__name__}") from exc


@cache
def _keep_memory() -> None:
    cast("Any", Image.core).set_blocks_max(_ARENA_BLOCKS)


def _open(file: IO[bytes], kind: MediaType) -> Image.Image:
    if kind not in _OPENERS:
        raise UnsupportedMediaType(f"A file of type {kind} is not an image.")
    return _OPENERS[kind](file, "")


def _check_size(width: int, height: int, size: int, limits: Limits) -> None:
    if width * height > limits.max_page_pixels:
        bomb = width * height > BOMB_RATIO * size
        detail = f"{width} x {height} is {width * height} pixels; the limit is {limits.max_page_pixels}."
        error = DecompressionBomb if bomb else TooManyPixels
        raise error(detail, limit=limits.max_page_pixels, actual=width * height)
    if min(width, height) < limits.min_image_side:
        detail = f"{width} x {height}: each side must have at least {limits.min_image_side} pixels."
        raise ImageTooSmall(detail, limit=limits.min_image_side, actual=min(width, height))
