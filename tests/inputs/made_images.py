"""Images that the corpus lacks, each made when it is needed: bombs, odd modes, wrong names, cut and endless files."""

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from files import FILES, corner, encoded
from PIL import Image


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *extra: bytes, bits: int = 1) -> bytes:
    """A gray PNG whose pixels are all 0: no other file is as small for its size."""
    row = b"\0" * (1 + (width * bits + 7) // 8)
    packer, data = zlib.compressobj(9), bytearray()
    for _ in range(height):
        data += packer.compress(row)
    data += packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", bytes(data)) + chunk(b"IEND", b"")


def tiff(width: int, height: int, data: bytes, frames: int = 1, *, loops: bool = False) -> bytes:
    """Gray frames that share one deflated strip; with `loops` the last one is followed by the first."""
    out = bytearray(struct.pack("<2sHI", b"II", 42, 8))
    size = 2 + 9 * 12 + 4
    strip = 8 + frames * size
    for n in range(1, frames + 1):
        tags = (
            (256, width),
            (257, height),
            (258, 8),
            (259, 8),
            (262, 1),
            (273, strip),
            (277, 1),
            (278, height),
        )
        out += struct.pack("<H", 9)
        for tag, value in (*tags, (279, len(data))):
            out += struct.pack("<HHII", tag, 4, 1, value)
        out += struct.pack("<I", 8 + n * size if n < frames else 8 * loops)
    return bytes(out + data)


def webp(width: int, height: int) -> bytes:
    """A lossless WebP of one colour, 30 bytes whatever its size: five codes of one symbol each, none of which has a bit."""
    bits, length = 0, 0
    for value, count in ((width - 1, 14), (height - 1, 14), (0, 4), (0, 3), *(((1, 4),) * 5)):
        bits |= value << length
        length += count
    body = b"\x2f" + bits.to_bytes((length + 7) // 8 + 1, "little")
    body += b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def webp_canvas(width: int, height: int) -> bytes:
    """An extended WebP that claims a canvas and holds nothing."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + sides


def gif_header(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + b"\0\0\0\xff\xff\xff,\0\0\0\0"
        + struct.pack("<HHB", width, height, 0)
        + b"\x02\x01\x44\0;"
    )


def bmp_runs(width: int, height: int) -> bytes:
    """A BMP in runs of 255 pixels, which Pillow decodes in Python."""
    line = b"\xff\0" * (width // 255) + bytes((width % 255, 0)) + b"\0\0"
    data = line * height + b"\0\1"
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 2, 0)
    start = 14 + len(info) + 8
    head = b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start)
    return head + info + b"\0\0\0\0\xff\xff\xff\0" + data


def patched(data: bytes, *edits: tuple[bytes, int, bytes]) -> bytes:
    """With other bytes so far behind each mark."""
    out = bytearray(data)
    for mark, offset, new in edits:
        at = out.index(mark) + offset
        out[at : at + len(new)] = new
    return bytes(out)


def jpeg_sides(width: int, height: int) -> bytes:
    """A small JPEG that claims to be larger."""
    return patched(FILES["jpeg"][0], (b"\xff\xc0", 5, struct.pack(">HH", height, width)))


def jpeg_scans(scans: int, side: int = 8000) -> bytes:
    """A progressive JPEG whose last scan comes again and again, each time over the whole page."""
    data = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def jp2_sides(width: int, height: int) -> bytes:
    sides = struct.pack(">II", width, height)
    header = (b"ihdr", 4, struct.pack(">II", height, width))
    return patched(FILES["jp2"][0], header, (b"\xff\x51", 6, sides), (b"\xff\x51", 22, sides))


def ispe(data: bytes, width: int, height: int) -> bytes:
    return patched(data, (b"ispe", 8, struct.pack(">II", width, height)))


def deep(kind: str, channels: int = 1) -> np.ndarray[Any, Any]:
    """A ramp over all values of a type."""
    dtype = np.dtype(kind)
    top = 1.0 if dtype.kind == "f" else np.iinfo(dtype).max
    ramp = np.linspace(0, top, 120 * 160 * channels).astype(dtype)
    return ramp.reshape((120, 160, channels) if channels > 1 else (120, 160))


def png_16_rgb() -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep("uint16", 3))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 160, 120, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(corner(), "JPEG", exif=exif)


def animated(kind: str, frames: int, **options: Any) -> bytes:
    pictures = [Image.new("RGB", (64, 48), (n % 256, n // 256, 0)) for n in range(frames)]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], **options)


def docx() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", "<w:document/>")
    return out.getvalue()


def text_bomb(name: bytes, head: bytes) -> bytes:
    return png(64, 64, chunk(name, head + zlib.compress(b"\0" * 200_000_000, 9)))


CMYK = Image.new("CMYK", (64, 48), (10, 200, 30, 40))
CLEAR = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
