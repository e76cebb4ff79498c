"""PDF pages as pixels, by PDFium; for a process that reads untrusted files and does nothing else."""

import ctypes
import math
import mmap
from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import IO, Any, cast

import numpy as np
import pypdfium2  # pyright: ignore[reportMissingTypeStubs]
import pypdfium2.raw  # pyright: ignore[reportMissingTypeStubs]
from PIL import Image

from ocrfleet.documents import Limits
from ocrfleet.errors import CorruptFile, EncryptedPdf, FleetError, ImageTooSmall, ValidationFailed

pdfium = cast("Any", pypdfium2)
raw = cast("Any", pypdfium2.raw)

POINTS_PER_INCH = 72
MIN_PAGE_SIDE = 64
"""Pixels to which the short side of a tiny page is enlarged."""
MAX_PAGE_SIDE = 20_000
"""Pixels to which the long side of a huge page is reduced, whatever its area."""
_ROWS = 32
"""Looked at together: few enough to stay in the core's cache."""


class PdfReader:
    """Counts and renders pages; the page buffer is kept, since its page faults cost as much as an easy page."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = (ctypes.c_ubyte * 0)()

    def count(self, file: IO[bytes], password: str | None) -> int:
        """Pages of a document; it may have none."""
        with _opened(file, password) as document:
            return len(document)

    def render(self, file: IO[bytes], number: int, password: str | None) -> tuple[dict[str, Any], memoryview]:
        """The header of an answer and its pixels."""
        with _opened(file, password) as document:
            pages = len(document)
            if not 1 <= number <= pages:
                detail = f"There is no page {number}; the file has {pages}."
                raise ValidationFailed(detail, limit=pages, actual=number)
            # Form fields hold what people filled in. This PDFium has no JavaScript and no XFA.
            document.init_forms()
            try:
                page = document[number - 1]
            except pdfium.PdfiumError as exc:
                raise CorruptFile(f"Page {number} cannot be loaded.") from exc
            with closing(page):
                scale = _scale(page.get_width(), page.get_height(), self._limits)
                # Four bytes a pixel are rendered and looked at faster than three.
                bitmap = page.render(
                    scale=scale, rev_byteorder=True, prefer_bgrx=True, bitmap_maker=self._bitmap
                )
                width, height = int(bitmap.width), int(bitmap.height)
        planes, pixels = self._packed(width, height)
        return {"width": width, "height": height, "planes": planes, "warnings": ()}, pixels

    def _packed(self, width: int, height: int) -> tuple[int, memoryview]:
        """One plane of a page without colour, a third of what has to travel; else three bytes a pixel."""
        rendered = np.frombuffer(cast("Any", self._buffer), np.uint8, width * height * 4)
        words = rendered.view("<u4").reshape(height, width)
        plane = np.empty((height, width), np.uint8)
        for top in range(0, height, _ROWS):
            rows = words[top : top + _ROWS]
            if ((rows ^ (rows >> 8)) & 0xFFFF).any():
                return 3, memoryview(
                    Image.frombytes("RGB", (width, height), rendered, "raw", "RGBX").tobytes()
                )
            plane[top : top + _ROWS] = rows
        return 1, plane.data.cast("B")

    def _bitmap(self, width: int, height: int, **options: object) -> object:
        size = width * height * 4
        if len(self._buffer) < size:
            self._buffer = (ctypes.c_ubyte * size)()
        return pdfium.PdfBitmap.new_native(width, height, buffer=self._buffer, **options)


@contextmanager
def _opened(file: IO[bytes], password: str | None) -> Generator[Any]:
    # A map, not a copy: of a document of 200 MB PDFium reads what a page needs.
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    view = (ctypes.c_ubyte * len(data)).from_buffer(data)
    handle = raw.FPDF_LoadMemDocument64(view, len(data), (password or "").encode("utf-8", "replace"))
    if not handle:
        raise _refusal(raw.FPDF_GetLastError(), password)
    with closing(pdfium.PdfDocument(handle)) as document:
        yield document


def _refusal(code: int, password: str | None) -> FleetError:
    if code == raw.FPDF_ERR_PASSWORD:
        given = "The password given does not open the PDF." if password else "The PDF needs a password."
        return EncryptedPdf(given)
    if code == raw.FPDF_ERR_SECURITY:
        return EncryptedPdf("The PDF is protected in a way that is not supported.")
    return CorruptFile("The file is no PDF that can be read.")


def _scale(width: float, height: float, limits: Limits) -> float:
    """Pixels per point: by the resolution, more for tiny pages, less for huge ones."""
    short, long = sorted((width, height))
    if not 0 < short <= long < math.inf:
        raise CorruptFile(f"The page measures {width:g} x {height:g} points.")
    scale = max(limits.render_dpi / POINTS_PER_INCH, MIN_PAGE_SIDE / short)
    scale = min(scale, math.sqrt(limits.render_max_pixels / (short * long)), MAX_PAGE_SIDE / long)
    if (side := math.ceil(short * scale)) < limits.min_image_side:
        detail = (
            f"{width:g} x {height:g} points leave {side} pixels; a side must have {limits.min_image_side}."
        )
        raise ImageTooSmall(detail, limit=limits.min_image_side, actual=side)
    return scale
