"""Inputs before anything decodes them: what a file is by its content, which pages were asked for, what it may cost."""

import re
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from ocrfleet.errors import EmptyFile, UnsupportedMediaType, ValidationFailed

if TYPE_CHECKING:
    # Only a name for the type checker: the sandbox's processes start without pydantic.
    from ocrfleet.settings import Settings

Pixels = NDArray[np.uint8]
"""An upright page, (height, width, 3), RGB, C-contiguous; may be read-only."""

HEAD_BYTES = 2048
"""What `sniff` needs of a file."""


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


class ArchiveType(StrEnum):
    """Files that hold others, each of which is an item."""

    ZIP = "zip"
    TAR = "tar"
    GZIP = "gzip"
    """Hopefully around a tar."""


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


def sniff(head: bytes) -> MediaType:
    """The type of a file by its first `HEAD_BYTES`; raises `EmptyFile` or `UnsupportedMediaType`."""
    if not head:
        raise EmptyFile("The file has no bytes.", limit=1, actual=0)
    for pattern, kind in _MAGIC_PATTERNS:
        if pattern.match(head):
            return kind
    raise UnsupportedMediaType(f"The file begins with {head[:12]!r}; accepted are {', '.join(MediaType)}.")


def sniff_archive(head: bytes) -> ArchiveType | None:
    """The kind of archive by its first `HEAD_BYTES`; None: it is none."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return ArchiveType.ZIP
    if head.startswith(b"\x1f\x8b"):
        return ArchiveType.GZIP
    return ArchiveType.TAR if head[257:262] == b"ustar" else None


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
