"""A PDF written page by page: of a document of 10,000 pages only the places of its objects are kept in memory."""

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from producer.exports import pdf_font
from producer.exports.words import Line, advance

_CATALOG, _PAGES, _INFO, _FONT = 1, 2, 3, 4
_FONT_OBJECTS = 6
MAX_SIDE, MIN_SIDE = 14_400.0, 3.0
"""Points: the limits of the format."""
# How a stored picture is turned clockwise into the page, as the matrix from the unit square.
_TURNED = {
    0: "{w} 0 0 {h} 0 0",
    90: "0 -{h} {w} 0 0 {h}",
    180: "-{w} 0 0 -{h} {w} {h}",
    270: "0 {h} -{w} 0 {w} 0",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it stands in the file."""

    data: bytes
    filter: str
    """`DCTDecode` or `FlateDecode`."""
    width: int
    height: int
    components: int = 3
    bits: int = 8
    dpi: float | None = None
    """What it says of itself."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A page: its upright size in pixels, the picture (turned clockwise by so many degrees), its lines of text."""

    width: float
    height: float
    dpi: float
    picture: Picture | None
    rotation: int
    lines: Iterable[Line]


class PdfFile:
    """Appends to an empty file; `close` makes it whole."""

    def __init__(self, file: IO[bytes], title: str) -> None:
        self._file = file
        self._title = title
        self._offsets: dict[int, int] = {}
        self._pages: list[int] = []
        self._next = _FONT + _FONT_OBJECTS
        self._codes = pdf_font.Codes()
        file.write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")

    def add(self, sheet: Sheet) -> None:
        """Append a page, as large on paper as its resolution says."""
        scale = 72 / sheet.dpi
        scale = min(scale, MAX_SIDE / max(sheet.width, sheet.height))
        scale = max(scale, MIN_SIDE / min(sheet.width, sheet.height))
        width, height = sheet.width * scale, sheet.height * scale
        content: list[str] = []
        resources = f"/Font << /F {_FONT} 0 R >>"
        if sheet.picture is not None:
            resources += f" /XObject << /I {self._picture(sheet.picture)} 0 R >>"
            matrix = _TURNED[sheet.rotation % 360].format(w=_number(width), h=_number(height))
            content.append(f"q {matrix} cm /I Do Q")
        content += ["BT 3 Tr", *(self._line(line, scale, height) for line in sheet.lines), "ET"]
        packed = zlib.compress("\n".join(content).encode())
        stream = self._add("/Filter /FlateDecode", packed)
        self._pages.append(
            self._add(
                f"/Type /Page /Parent {_PAGES} 0 R /MediaBox [0 0 {_number(width)} {_number(height)}] "
                f"/Resources << {resources} >> /Contents {stream} 0 R"
            )
        )

    def close(self) -> None:
        """Write what all pages share, and the table of objects."""
        for n, (members, stream) in enumerate(pdf_font.objects(self._codes, _FONT)):
            self._write(_FONT + n, members, stream)
        kids = " ".join(f"{page} 0 R" for page in self._pages)
        self._write(_PAGES, f"/Type /Pages /Count {len(self._pages)} /Kids [{kids}]")
        self._write(_CATALOG, f"/Type /Catalog /Pages {_PAGES} 0 R")
        title = f"\ufeff{self._title}".encode("utf-16-be", "replace").hex()
        self._write(_INFO, f"/Title <{title}> /Producer (OCR Fleet)")
        start, size = self._file.tell(), self._next
        entries = [f"{self._offsets[n]:010} 00000 n \n" for n in range(1, size)]
        digest = hashlib.sha256(self._title.encode("utf-8", "replace") + b"%d" % start).hexdigest()[:32]
        self._file.write(f"xref\n0 {size}\n0000000000 65535 f \n{''.join(entries)}".encode())
        trailer = f"/Size {size} /Root {_CATALOG} 0 R /Info {_INFO} 0 R /ID [<{digest}> <{digest}>]"
        self._file.write(f"trailer\n<< {trailer} >>\nstartxref\n{start}\n%%EOF\n".encode())

    def _line(self, line: Line, scale: float, height: float) -> str:
        """The line in its box: as high as it, and drawn out to its width."""
        x0, y0, x1, y1 = (side * scale for side in line.box)
        vertical = line.vertical
        size, length = (x1 - x0, y1 - y0) if vertical else (y1 - y0, x1 - x0)
        base = size * -pdf_font.DESCENT / 1000
        stretch = _number(1000 * length / (advance(line.text) * size))
        if vertical:
            matrix = f"0 -{stretch} 1 0 {_number(x0 + base)} {_number(height - y0)}"
        else:
            matrix = f"{stretch} 0 0 1 {_number(x0)} {_number(height - y1 + base)}"
        return f"/F {_number(size)} Tf {matrix} Tm <{self._codes.encode(line.text)}> Tj"

    def _picture(self, picture: Picture) -> int:
        space = "/DeviceGray" if picture.components == 1 else "/DeviceRGB"
        return self._add(
            f"/Type /XObject /Subtype /Image /Width {picture.width} /Height {picture.height} /ColorSpace {space} "
            f"/BitsPerComponent {picture.bits} /Filter /{picture.filter}",
            picture.data,
        )

    def _add(self, members: str, stream: bytes | None = None) -> int:
        number, self._next = self._next, self._next + 1
        self._write(number, members, stream)
        return number

    def _write(self, number: int, members: str, stream: bytes | None = None) -> None:
        self._offsets[number] = self._file.tell()
        if stream is None:
            self._file.write(f"{number} 0 obj\n<< {members} >>\nendobj\n".encode())
            return
        self._file.write(f"{number} 0 obj\n<< {members} /Length {len(stream)} >>\nstream\n".encode())
        self._file.write(stream)
        self._file.write(b"\nendstream\nendobj\n")


def _number(value: float) -> str:
    """Without an exponent, which the format does not know."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
