"""The files that the corpus lacks, by name, each with its class and what must become of it."""

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from files import (
    FILES,
    corner,
    encoded,
    encrypted_pdf,
    heif,
    noise,
    pdf,
    pdf_page,
    png_header,
    several,
    slow_pdf,
)
from made_images import (
    CLEAR,
    CMYK,
    animated,
    bmp_runs,
    chunk,
    deep,
    docx,
    gif_header,
    ispe,
    jp2_sides,
    jpeg_scans,
    jpeg_sides,
    png,
    png_16_rgb,
    text_bomb,
    tiff,
    turned,
    webp,
    webp_canvas,
)
from made_pdfs import (
    DOT,
    attachment,
    content_bomb,
    form_loop,
    gray_image_pdf,
    image_pdf,
    jbig2_pdf,
    jpx_pdf,
    objects,
    outside,
    pages_claimed,
    scripted,
    xfa,
    xref_loop,
)
from PIL import Image

Given = dict[str, Any]
IMPATIENT: Given = {"render_timeout": 5.0}
NARROW: Given = {"render_timeout": 120.0, "sandbox_memory": 1 << 30}


@dataclass(frozen=True, slots=True)
class Made:
    """How to make a file, and what must become of it."""

    make: Callable[[], bytes]
    expected: str = "ok"
    pages: int = 1
    """Lines of its result; a document that is refused as a whole has one."""
    password: str | None = None
    given: Given | None = None
    """Settings of a worker to which it shows sooner what it shows to any."""


THREE = pdf(DOT, DOT, DOT)
_THREE_FRAMES = encoded(corner(), "TIFF", save_all=True, append_images=[noise(50, 30), corner((20, 80))])
_HALVES = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "jp2", "heif", "avif", "ppm")

MADE: dict[str, dict[str, Made]] = {
    "empty": {
        f"nothing.{kind}": Made(lambda: b"", "empty_file") for kind in ("jpg", "png", "pdf", "tif", "heic")
    },
    "truncated": {
        **{
            f"half.{kind}": Made(lambda data=FILES[kind][0]: data[: len(data) // 2], "corrupt_file")
            for kind in _HALVES
        },
        "half.pdf": Made(lambda: THREE[: len(THREE) // 2], "corrupt_file"),
        "without-its-end.jpg": Made(lambda: FILES["jpeg"][0][:-2], "corrupt_file"),
        "head-only.pdf": Made(lambda: b"%PDF-1.7", "corrupt_file"),
    },
    "wrong extension": {
        "png.pdf": Made(lambda: FILES["png"][0]),
        "jpeg.tif": Made(lambda: FILES["jpeg"][0]),
        "webp.jpg": Made(lambda: FILES["webp"][0]),
        "pdf.jpg": Made(lambda: THREE, pages=3),
        "tiff.png": Made(lambda: _THREE_FRAMES, pages=3),
        "encrypted-pdf.jpg": Made(lambda: encrypted_pdf("geheim"), "encrypted_pdf"),
        "no-extension": Made(lambda: FILES["avif"][0]),
    },
    "not an accepted type": {
        "page.jpg": Made(lambda: b"<!DOCTYPE html><html>404</html>", "unsupported_media_type"),
        "drawing.png": Made(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_media_type"),
        "script.jpg": Made(
            lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported_media_type"
        ),
        "film.heic": Made(
            lambda: b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(99), "unsupported_media_type"
        ),
        "letter.pdf": Made(docx, "unsupported_media_type"),
        "packed.png": Made(lambda: gzip.compress(FILES["png"][0]), "unsupported_media_type"),
        "zeros.tif": Made(lambda: bytes(4096), "unsupported_media_type"),
        "junk-before.pdf": Made(lambda: b"j" * 1100 + THREE, "unsupported_media_type"),
    },
    "decompression bomb, image": {
        "header.png": Made(lambda: png_header(60_000, 50_000), "decompression_bomb"),
        "zeros.png": Made(lambda: png(20_000, 20_000), "decompression_bomb"),
        "text.png": Made(lambda: text_bomb(b"zTXt", b"a\0\0"), "decompression_bomb"),
        "profile.png": Made(lambda: text_bomb(b"iCCP", b"a\0\0"), "decompression_bomb"),
        "zeros.tif": Made(lambda: tiff(60_000, 60_000, zlib.compress(bytes(1000))), "decompression_bomb"),
        "header.gif": Made(lambda: gif_header(65_535, 65_535), "decompression_bomb"),
        "colour.webp": Made(lambda: webp(16_383, 16_383), "decompression_bomb"),
        "canvas.webp": Made(lambda: webp_canvas(1 << 24, 200), "decompression_bomb"),
        "header.jp2": Made(lambda: jp2_sides(60_000, 60_000), "decompression_bomb"),
        "header.heic": Made(lambda: ispe(FILES["heif"][0], 60_000, 60_000), "decompression_bomb"),
        "header.avif": Made(lambda: ispe(FILES["avif"][0], 60_000, 60_000), "corrupt_file"),
        "header.ppm": Made(lambda: b"P6 60000 60000 255\n", "decompression_bomb"),
        "header.jpg": Made(lambda: jpeg_sides(65_500, 65_500), "decompression_bomb"),
    },
    "as large as allowed": {
        "zeros.png": Made(lambda: png(10_000, 9_900)),
        "zeros.tif": Made(lambda: tiff(9_999, 9_999, zlib.compress(bytes(9_999 * 9_999)))),
        "colour.webp": Made(lambda: webp(9_999, 9_999)),
        "scaled.avif": Made(lambda: ispe(FILES["avif"][0], 9_999, 9_999)),
        "runs.bmp": Made(lambda: bmp_runs(30_000, 3_000)),
        "numbers.ppm": Made(lambda: b"P2 2000 2000 255\n" + b"128 " * 4_000_000),
        "cut-short.jp2": Made(lambda: jp2_sides(9_999, 9_999), "corrupt_file"),
        "cut-short.gif": Made(lambda: gif_header(9_999, 9_999), "corrupt_file"),
        "cut-short.webp": Made(lambda: webp_canvas(9_999, 9_999), "corrupt_file"),
        "cut-short.heic": Made(lambda: ispe(FILES["heif"][0], 9_999, 9_999), "corrupt_file"),
        "cut-short.ppm": Made(lambda: b"P6 9999 9999 255\n", "corrupt_file"),
    },
    "side of 30,000 pixels": {
        "gray.png": Made(lambda: png(30_000, 3_000, bits=8)),
        "fax.tif": Made(lambda: encoded(Image.new("1", (3_000, 30_000), 1), "TIFF", compression="group4")),
        "strip.png": Made(lambda: png(30_000, 20)),
        "line.png": Made(lambda: png(30_000, 3), "image_too_small"),
        "square.png": Made(lambda: png_header(30_000, 30_000), "decompression_bomb"),
        "noise.jpg": Made(
            lambda: encoded(
                Image.effect_noise((3_000, 4_000), 50).resize((30_000, 4_000)), "JPEG", quality=30
            ),
            "too_many_pixels",
        ),
    },
    "endless image": {
        "chunks.png": Made(lambda: png(64, 64, chunk(b"teSt", b"") * 600_000)),
        "loop.tif": Made(lambda: tiff(64, 64, zlib.compress(bytes(4096)), 3, loops=True), pages=3),
        "scans.jpg": Made(lambda: jpeg_scans(20_000), "render_timeout", given=IMPATIENT),
    },
    "colours": {
        "cmyk.jpg": Made(lambda: encoded(CMYK, "JPEG")),
        "cmyk.tif": Made(lambda: encoded(CMYK, "TIFF")),
        "16-bit.png": Made(lambda: encoded(Image.fromarray(deep("uint16")), "PNG")),
        "16-bit.tif": Made(lambda: encoded(Image.fromarray(deep("uint16")), "TIFF")),
        "16-bit-colour.png": Made(png_16_rgb),
        "32-bit.tif": Made(lambda: encoded(Image.fromarray(deep("int32")), "TIFF")),
        "float.tif": Made(lambda: encoded(Image.fromarray(deep("float32")), "TIFF")),
        "lab.tif": Made(lambda: encoded(Image.new("LAB", (64, 48), (200, 128, 128)), "TIFF")),
        "bilevel.tif": Made(lambda: encoded(Image.new("1", (64, 48), 1), "TIFF", compression="group3")),
        "palette-with-alpha.png": Made(lambda: encoded(CLEAR.quantize(4), "PNG")),
        "palette-with-alpha.gif": Made(lambda: encoded(CLEAR, "GIF")),
        "gray-with-alpha.png": Made(lambda: encoded(CLEAR.convert("LA"), "PNG")),
        "alpha.webp": Made(lambda: encoded(CLEAR, "WEBP")),
        "alpha.avif": Made(lambda: encoded(CLEAR, "AVIF")),
    },
    "EXIF turned": {
        f"{orientation}.jpg": Made(lambda orientation=orientation: turned(orientation))
        for orientation in range(1, 9)
    },
    "several frames": {
        "three.tif": Made(lambda: _THREE_FRAMES, pages=3),
        "300.tif": Made(lambda: tiff(64, 64, zlib.compress(bytes(4096)), 300), pages=300),
        "10001.tif": Made(lambda: tiff(64, 64, zlib.compress(bytes(4096)), 10_001), "too_many_pages"),
        "2000.gif": Made(lambda: animated("GIF", 2_000)),
        "2.webp": Made(lambda: several("WEBP", lossless=True)),
        "2.png": Made(lambda: several("PNG")),
        "2.heic": Made(lambda: heif(corner(), noise(60, 40))),
        "2.avif": Made(lambda: several("AVIF")),
        "2.mpo": Made(lambda: several("MPO")),
    },
    "HEIC, AVIF, JPEG 2000": {
        "plain.heic": Made(lambda: FILES["heif"][0]),
        "plain.avif": Made(lambda: FILES["avif"][0]),
        "plain.jp2": Made(lambda: FILES["jp2"][0]),
        "plain.j2k": Made(lambda: FILES["j2k"][0]),
    },
    "PDF, encrypted": {
        "user.pdf": Made(lambda: encrypted_pdf("geheim"), "encrypted_pdf"),
        "wrong.pdf": Made(lambda: encrypted_pdf("geheim"), "encrypted_pdf", password="falsch\0\ud800"),  # noqa: S106
        "given.pdf": Made(lambda: encrypted_pdf("geheim"), password="geheim"),  # noqa: S106
        "owner.pdf": Made(lambda: encrypted_pdf("")),
        "needless.pdf": Made(lambda: THREE, pages=3, password="geheim"),  # noqa: S106
    },
    "PDF, malformed": {
        "garbage.pdf": Made(lambda: b"%PDF-1.7\n" + b"nothing of the kind " * 1000, "corrupt_file"),
        "no-table.pdf": Made(lambda: THREE[: THREE.index(b"xref")], "corrupt_file"),
        "no-catalog.pdf": Made(lambda: objects("<</Type/Pages/Kids[]/Count 0>>"), "corrupt_file"),
        "no-pages.pdf": Made(pdf, "empty_file"),
        "table-loop.pdf": Made(xref_loop, pages=3),
        "page-loop.pdf": Made(
            lambda: objects("<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[2 0 R]/Count 1>>"),
            "corrupt_file",
        ),
        "claims-3.pdf": Made(lambda: pages_claimed(3), "ok, 2-3 corrupt_file", pages=3),
        "claims-less.pdf": Made(lambda: pages_claimed(-3)),
        "claims-million.pdf": Made(lambda: pages_claimed(1_000_000), "too_many_pages"),
        "no-box.pdf": Made(
            lambda: objects(
                "<</Type/Catalog/Pages 2 0 R>>",
                "<</Type/Pages/Kids[3 0 R]/Count 1>>",
                "<</Type/Page/Parent 2 0 R>>",
            )
        ),
        "brackets.pdf": Made(
            lambda: pdf(pdf_page("[" * 1_000_000, "0 0 72 72", Deep="[" * 99_999 + "]" * 99_999))
        ),
        "junk-before.pdf": Made(lambda: b"j" * 1000 + THREE, pages=3),
    },
    "PDF, many pages": {
        "5000.pdf": Made(lambda: pdf(*[DOT] * 5000), pages=5000),
        "10001.pdf": Made(lambda: pdf(*[DOT] * 10_001), "too_many_pages"),
    },
    "PDF, huge or tiny box": {
        "14400.pdf": Made(lambda: pdf(pdf_page(box="0 0 14400 14400"))),
        "2e9.pdf": Made(lambda: pdf(pdf_page(box="0 0 2000000000 2000000000"))),
        "1e38.pdf": Made(lambda: pdf(pdf_page(box="0 0 1e38 1e38"))),
        "thread.pdf": Made(lambda: pdf(pdf_page(box="0 0 2000000000 100")), "image_too_small"),
        "stamp.pdf": Made(lambda: pdf(pdf_page(box="0 0 10 5"))),
        "nothing.pdf": Made(lambda: pdf(pdf_page(box="0 0 0 0"))),
        "backwards.pdf": Made(lambda: pdf(pdf_page(box="595 842 0 0"))),
    },
    "decompression bomb, PDF": {
        "bilevel.pdf": Made(lambda: gray_image_pdf(60_000, 60_000, 1)),
        "gray.pdf": Made(lambda: gray_image_pdf(30_000, 30_000, 8)),
        "twice.pdf": Made(lambda: gray_image_pdf(12_000, 12_000, 8, 2)),
        "overflow.pdf": Made(
            lambda: image_pdf(
                100_000, 100_000, b"", "/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/FlateDecode"
            )
        ),
        "jbig2.pdf": Made(lambda: jbig2_pdf(claimed=(60_000, 60_000))),
        "jpeg2000.pdf": Made(lambda: jpx_pdf(jp2_sides(60_000, 60_000), 60_000, 60_000)),
        "blanks.pdf": Made(lambda: content_bomb(200 << 20, 2)),
        "blanks-without-end.pdf": Made(lambda: content_bomb(4 << 30, 3), "decompression_bomb", given=NARROW),
    },
    "PDF, endless": {
        "fills.pdf": Made(lambda: slow_pdf(1000), "render_timeout", given=IMPATIENT),
        "form-loop.pdf": Made(form_loop, "decompression_bomb", given=NARROW),
        "states.pdf": Made(lambda: pdf(pdf_page("q " * 1_000_000, "0 0 72 72"))),
    },
    "PDF, JBIG2 and JPEG 2000": {
        "jbig2.pdf": Made(jbig2_pdf),
        "jpeg2000.pdf": Made(lambda: jpx_pdf(FILES["jp2"][0], 60, 40)),
    },
    "PDF, scripts, forms, files": {
        "javascript.pdf": Made(scripted),
        "xfa.pdf": Made(xfa),
        "attachment.pdf": Made(attachment),
        "outside.pdf": Made(outside),
    },
}
