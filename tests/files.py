"""Small files of every odd kind, made when a test needs them."""

import hashlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

from ocrfleet.documents import MediaType

_PAD = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file of a Pillow format."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def corner(size: tuple[int, int] = (60, 40)) -> Image.Image:
    """White, with a red, a green and a blue block that tell every orientation apart."""
    image = Image.new("RGB", size, "white")
    width, height = size
    image.paste((255, 0, 0), (0, 0, width // 2, height // 2))
    image.paste((0, 255, 0), (0, height // 2, width // 2, height))
    image.paste((0, 0, 255), (width // 2, 0, width, height // 2))
    return image


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


def heif(*images: Image.Image) -> bytes:
    out = io.BytesIO()
    file = pillow_heif.from_pillow(images[0])
    for image in images[1:]:
        file.add_from_pillow(image)
    file.save(out, quality=90)
    return out.getvalue()


def several(kind: str, **options: Any) -> bytes:
    return encoded(corner(), kind, save_all=True, append_images=[noise(60, 40)], **options)


FILES: dict[str, tuple[bytes, MediaType]] = {
    "jpeg": (encoded(corner(), "JPEG"), MediaType.JPEG),
    "mpo": (several("MPO"), MediaType.JPEG),
    "png": (encoded(corner(), "PNG"), MediaType.PNG),
    "tiff": (encoded(corner(), "TIFF"), MediaType.TIFF),
    "big endian tiff": (encoded(corner().convert("L"), "TIFF", big_tiff=True), MediaType.TIFF),
    "webp": (encoded(corner(), "WEBP", lossless=True), MediaType.WEBP),
    "bmp": (encoded(corner(), "BMP"), MediaType.BMP),
    "gif": (encoded(corner(), "GIF"), MediaType.GIF),
    "jp2": (encoded(corner(), "JPEG2000"), MediaType.JPEG2000),
    "j2k": (encoded(corner(), "JPEG2000", no_jp2=True), MediaType.JPEG2000),
    "heif": (heif(corner()), MediaType.HEIF),
    "avif": (encoded(corner(), "AVIF", quality=90), MediaType.AVIF),
    "ppm": (encoded(corner(), "PPM"), MediaType.PPM),
    "pgm": (encoded(corner().convert("L"), "PPM"), MediaType.PPM),
}


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds one byte of pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def pdf_page(content: str = "", box: str = "0 0 595 842", **entries: str) -> tuple[str, str, dict[str, str]]:
    """A page for `pdf`: its content stream, its MediaBox and further entries of its dictionary."""
    return content, box, entries


def pdf(
    *pages: tuple[str, str, dict[str, str]], extra: tuple[str, ...] = (), trailer: str = "", catalog: str = ""
) -> bytes:
    """A PDF with these pages; the objects of `extra` are numbered from 3, the pages follow them."""
    first = 3 + len(extra)
    kids = " ".join(f"{first + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        f"<</Type/Catalog/Pages 2 0 R{catalog}>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
        *extra,
    ]
    for index, (content, box, entries) in enumerate(pages):
        more = "".join(f"/{name} {value}" for name, value in entries.items())
        contents = f"/Contents {first + 2 * index + 1} 0 R" if content else ""
        objects.append(f"<</Type/Page/Parent 2 0 R/MediaBox[{box}]{contents}{more}>>")
        objects.append(f"<</Length {len(content)}>>stream\n{content}\nendstream")
    out = bytearray(b"%PDF-1.4\n")
    offsets: list[int] = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += "".join(f"{offset:010} 00000 n \n" for offset in offsets).encode()
    out += f"trailer<</Size {len(objects) + 1}/Root 1 0 R{trailer}>>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def encrypted_pdf(password: str) -> bytes:
    """A PDF of one blank page behind a user password (40-bit RC4, which needs nothing but MD5)."""
    user = (password.encode() + _PAD)[:32]
    owner = _rc4(hashlib.md5(user).digest()[:5], user)  # noqa: S324
    key = hashlib.md5(user + owner + struct.pack("<i", -4) + b"id").digest()[:5]  # noqa: S324
    entries = f"/V 1/R 2/P -4/O<{owner.hex()}>/U<{_rc4(key, _PAD).hex()}>"
    return pdf(
        pdf_page(), trailer=f"/ID[<{b'id'.hex()}><{b'id'.hex()}>]/Encrypt<</Filter/Standard{entries}>>"
    )


def slow_pdf(fills: int) -> bytes:
    """A PDF whose page is filled edge to edge again and again, through a transparent graphics state."""
    extra = ("<</Type/ExtGState/ca .5/BM/Luminosity>>",)
    content = "/G gs 1 0 0 rg\n" + "0 0 2000 2000 re f\n" * fills
    return pdf(pdf_page(content, "0 0 1000 1000", Resources="<</ExtGState<</G 3 0 R>>>>"), extra=extra)


def _rc4(key: bytes, data: bytes) -> bytes:
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
