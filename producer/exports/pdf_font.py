"""A font that is never seen: it says for each of its codes which character it is and how wide.

As in the PDFs of Tesseract and OCRmyPDF; but with the characters of the document only, so that those beyond the basic
plane can be copied and found too. Its glyphs are boxes as wide as their characters: PDFium takes text without an extent
for nothing, and marks what is selected by its glyphs.
"""

import struct
import zlib
from collections.abc import Iterable

from producer.exports.words import width

NAME = "OCRFleetHidden"
ASCENT, DESCENT = 800, -200
"""In thousandths of the size; together the height of a line's box."""
MAX_CODES = 65_000
_UNKNOWN = "\ufffd"
_PER_BLOCK = 100


class Codes:
    """The codes of a document's characters, given as they come."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {_UNKNOWN: 1}

    def encode(self, text: str) -> str:
        """The text in hex digits, four a character."""
        return "".join([f"{self._code(char):04x}" for char in text])

    def _code(self, char: str) -> int:
        if char not in self._codes and len(self._codes) >= MAX_CODES:
            char = _UNKNOWN
        return self._codes.setdefault(char, len(self._codes) + 1)

    def widths(self) -> str:
        """The array /W of the font."""
        return f"[1 [{' '.join(str(width(char)) for char in self._codes)}]]"

    def to_unicode(self) -> bytes:
        """The CMap from codes to characters."""
        entries = [f"<{code:04x}> <{char.encode('utf-16-be').hex()}>" for char, code in self._codes.items()]
        blocks = [entries[n : n + _PER_BLOCK] for n in range(0, len(entries), _PER_BLOCK)]
        lines = ["/CIDInit /ProcSet findresource begin", "12 dict begin", "begincmap"]
        lines += ["/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def"]
        lines += ["/CMapName /Adobe-Identity-UCS def", "/CMapType 2 def"]
        lines += ["1 begincodespacerange", "<0000> <ffff>", "endcodespacerange"]
        for block in blocks:
            lines += [f"{len(block)} beginbfchar", *block, "endbfchar"]
        lines += ["endcmap", "CMapName currentdict /CMap defineresource pop", "end", "end", ""]
        return "\n".join(lines).encode()

    def glyphs(self) -> tuple[list[int], bytes]:
        """The widths of the glyphs, from the second on, and the stream /CIDToGIDMap: for every code its glyph."""
        found = sorted({width(char) for char in self._codes})
        places = {wide: n for n, wide in enumerate(found, 1)}
        chosen = [0, *(places[width(char)] for char in self._codes)]
        return found, struct.pack(f">{len(chosen)}H", *chosen)


def _table_checksum(data: bytes) -> int:
    padded = data + b"\0" * (-len(data) % 4)
    return sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF


def truetype(widths: list[int]) -> bytes:
    """A TrueType file of an empty glyph and a box of each width, 1000 units to the em."""
    boxes = [_box(max(1, wide)) for wide in widths]
    count, size = len(boxes) + 1, len(boxes[0])
    tables = {
        b"glyf": b"".join(boxes),
        b"head": struct.pack(
            ">IIIIHHQQhhhhHHhhh", 0x10000, 0x10000, 0, 0x5F0F3CF5, 3, 1000, 0, 0, 0, DESCENT, 1000, ASCENT, 0, 8, 2, 0, 0
        ),
        b"hhea": struct.pack(">IhhhH11hH", 0x10000, ASCENT, DESCENT, 0, 1000, 0, 0, 0, 1, *[0] * 7, count),
        b"hmtx": b"".join(struct.pack(">Hh", wide, 0) for wide in (0, *widths)),
        b"loca": struct.pack(f">{count + 1}H", 0, *(n * size // 2 for n in range(count))),
        b"maxp": struct.pack(">IH13H", 0x10000, count, 4, 1, 0, 0, 2, *[0] * 8),
    }  # fmt: skip
    offset = 12 + 16 * len(tables)
    directory, body = struct.pack(">IHHHH", 0x10000, len(tables), 64, 2, 32), b""
    for tag, data in sorted(tables.items()):
        directory += struct.pack(">4sIII", tag, _table_checksum(data), offset + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    return directory + body


def _box(wide: int) -> bytes:
    """A glyph of one contour of four points, each on the curve."""
    corners = (0, wide, 0, -wide, DESCENT, 0, ASCENT - DESCENT, 0)
    glyph = struct.pack(">5hHH4B8h", 1, 0, DESCENT, wide, ASCENT, 3, 0, 1, 1, 1, 1, *corners)
    return glyph + b"\0" * (-len(glyph) % 4)


def objects(codes: Codes, first: int) -> Iterable[tuple[str, bytes | None]]:
    """The font's objects, to be numbered from `first`: each its dictionary, and the stream with it."""
    descriptor, unicode, descendant = first + 1, first + 4, first + 5
    widths, glyphs = codes.glyphs()
    program = truetype(widths)
    packed = [zlib.compress(data, 9) for data in (program, glyphs, codes.to_unicode())]
    yield (
        (
            f"/Type /Font /Subtype /Type0 /BaseFont /{NAME} /Encoding /Identity-H "
            f"/DescendantFonts [{descendant} 0 R] /ToUnicode {unicode} 0 R"
        ),
        None,
    )
    yield (
        (
            f"/Type /FontDescriptor /FontName /{NAME} /Flags 4 /FontBBox [0 {DESCENT} 1000 {ASCENT}] /ItalicAngle 0 "
            f"/Ascent {ASCENT} /Descent {DESCENT} /CapHeight {ASCENT} /StemV 80 /FontFile2 {first + 2} 0 R"
        ),
        None,
    )
    yield f"/Length1 {len(program)} /Filter /FlateDecode", packed[0]
    yield "/Filter /FlateDecode", packed[1]
    yield "/Filter /FlateDecode", packed[2]
    yield (
        (
            f"/Type /Font /Subtype /CIDFontType2 /BaseFont /{NAME} /CIDToGIDMap {first + 3} 0 R "
            "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> "
            f"/FontDescriptor {descriptor} 0 R /DW 1000 /W {codes.widths()}"
        ),
        None,
    )
