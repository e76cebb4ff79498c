"""The process inside the sandbox: it reads one untrusted file at a time and has little it could harm."""

import ctypes
import json
import math
import os
import resource
import select
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pypdfium2  # pyright: ignore[reportMissingTypeStubs]
import pypdfium2.raw  # pyright: ignore[reportMissingTypeStubs]
from PIL import Image

from ocrfleet.documents import Limits, MediaType, count_tiff, decode_file, foreign_errors
from ocrfleet.errors import CorruptFile, EmptyFile, EncryptedPdf, FleetError, ImageTooSmall, ValidationFailed
from ocrfleet.sandbox import RECYCLE_AFTER, read_header, write_header

pdfium = cast("Any", pypdfium2)
raw = cast("Any", pypdfium2.raw)

POINTS_PER_INCH = 72
MIN_PAGE_SIDE = 64
"""Pixels to which the short side of a tiny PDF page is enlarged."""
MAX_PAGE_SIDE = 20_000
"""Pixels to which the long side of a huge PDF page is reduced, whatever its area."""
_ROWS = 32
"""Looked at together: few enough to stay in the core's cache."""


_Answer = tuple[dict[str, Any], memoryview | None]


class Reader:
    """Answers requests; the page buffer is kept, since its page faults cost as much as an easy page."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = (ctypes.c_ubyte * 0)()

    def answer(self, request: dict[str, Any]) -> _Answer:
        """A header, and the pixels that follow it."""
        try:
            with Path(request["path"]).open("rb") as file, foreign_errors():
                return (
                    self._count(file, request) if request["verb"] == "count" else self._render(file, request)
                )
        except FleetError as exc:
            return {"error": exc.code, "detail": exc.detail, "extra": exc.extra}, None

    def _count(self, file: IO[bytes], request: dict[str, Any]) -> _Answer:
        if request["media_type"] == MediaType.TIFF:
            return {"pages": count_tiff(file)}, None
        with _open_pdf(Path(request["path"]), request["password"]) as document:
            return {"pages": len(document)}, None

    def _render(self, file: IO[bytes], request: dict[str, Any]) -> _Answer:
        path, number = Path(request["path"]), int(request["page"])
        if request["media_type"] == MediaType.PDF:
            return self._render_pdf(path, number, request["password"])
        decoded = decode_file(file, MediaType.TIFF, path.stat().st_size, number - 1, self._limits)
        height, width, _ = decoded.pixels.shape
        header = {"width": width, "height": height, "frames": decoded.frames, "warnings": decoded.warnings}
        return header | {"planes": 3}, decoded.pixels.data.cast("B")

    def _render_pdf(self, path: Path, number: int, password: str | None) -> _Answer:
        with _open_pdf(path, password) as document:
            frames = len(document)
            if not 1 <= number <= frames:
                raise ValidationFailed(f"There is no page {number}; the file has {frames}.", limit=frames)
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
        return {"width": width, "height": height, "planes": planes, "frames": frames, "warnings": ()}, pixels

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


def main() -> None:
    """Serve the socket on standard input until the parent closes it."""
    limits, parent = Limits(**json.loads(sys.argv[1])), int(sys.argv[2])
    connection = socket.socket(fileno=0)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    _confine(limits)
    # Libraries write what they think of a file there; whatever kept us from starting has been seen.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    reader = Reader(limits)
    # What follows the header of an answer can only fail because the parent is gone.
    with suppress(EOFError, OSError):
        write_header(connection, {})
        while True:
            header, pixels = reader.answer(read_header(connection))
            write_header(connection, header)
            if pixels is not None:
                connection.sendall(pixels)


def _end_with_parent(parent: int) -> None:
    """Leave at once, whatever the main thread does; PR_SET_PDEATHSIG would fire when the starting thread ends."""
    poll = select.poll()
    poll.register(0, select.POLLRDHUP)
    while os.getppid() == parent and not poll.poll(1000):
        pass
    os._exit(0)


def _confine(limits: Limits) -> None:
    for kind, wanted in (
        (resource.RLIMIT_AS, limits.sandbox_memory),
        (resource.RLIMIT_CPU, int(RECYCLE_AFTER * limits.render_timeout) + 1),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(kind)
        # We may be confined already, and must not ask for more.
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (limit, limit))


@contextmanager
def _open_pdf(path: Path, password: str | None) -> Generator[Any]:
    # PDFium keeps the last error even when it opens a file without pages: leave one there that we know.
    raw.FPDF_LoadDocument(b"", None)
    try:
        document = pdfium.PdfDocument(path, password=password)
    except pdfium.PdfiumError as exc:
        raise _refusal(exc.err_code, password) from exc
    with closing(document):
        yield document


def _refusal(code: int, password: str | None) -> FleetError:
    if code == raw.FPDF_ERR_PASSWORD:
        given = "The password given does not open the PDF." if password else "The PDF needs a password."
        return EncryptedPdf(given)
    if code == raw.FPDF_ERR_SECURITY:
        return EncryptedPdf("The PDF is protected in a way that is not supported.")
    if code == raw.FPDF_ERR_FILE:
        return EmptyFile("The document has no pages.")
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


if __name__ == "__main__":
    main()
