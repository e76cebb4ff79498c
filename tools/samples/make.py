"""Make the sample documents: `python tools/samples/make.py [--fonts DIR] [--out DIR]`.

Needs reportlab besides the project's own Pillow and NumPy, and the fonts named in tools/samples/README.md. The texts are
invented, the drawing is deterministic, and only the finished documents are used by `make demo`.
"""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import layouts
import numpy as np
from PIL import Image, ImageFilter
from reportlab.lib.pagesizes import A4
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from sheet import Fonts

PASSWORD = "ocrfleet"  # noqa: S105 (of the sample that is meant to be refused)
EPOCH = time.gmtime(0)


def noisy(image: Image.Image, sigma: float, seed: int) -> Image.Image:
    """Add the grain of a scanner or a camera."""
    pixels = np.asarray(image, dtype=np.float32)
    grain = np.random.default_rng(seed).normal(0, sigma, pixels.shape)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def scanned(image: Image.Image, degrees: float, seed: int) -> Image.Image:
    """A page laid on the glass a little askew."""
    turned = image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=245)
    return noisy(turned.filter(ImageFilter.GaussianBlur(0.4)), 4, seed)


def perspective(source: Iterable[tuple[float, float]], target: Iterable[tuple[float, float]]) -> list[float]:
    """Pillow's eight coefficients that show the corners `source` at `target`."""
    rows, values = [], []
    for (u, v), (x, y) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(rows), np.array(values)).tolist()


def photographed(image: Image.Image) -> Image.Image:
    """A receipt on a wooden table: seen from the side, unevenly lit, slightly out of focus."""
    width, height = 1000, 1400
    rng = np.random.default_rng(7)
    grain = np.cumsum(rng.normal(0, 0.6, (height, 1)), axis=0) + rng.normal(0, 3, (height, width))
    wood = np.array([118, 84, 58], dtype=np.float32) + grain[..., None]
    table = Image.fromarray(np.clip(wood, 0, 255).astype(np.uint8))
    corners = [(0, 0), (image.width, 0), (image.width, image.height), (0, image.height)]
    seen = [(235, 70), (855, 150), (905, 1275), (95, 1335)]
    how = perspective(corners, seen)
    size, kind = (width, height), Image.Transform.PERSPECTIVE
    paper = image.convert("RGB").transform(size, kind, how, Image.Resampling.BICUBIC)
    mask = Image.new("L", image.size, 255).transform(size, kind, how, Image.Resampling.BICUBIC)
    shadow = mask.filter(ImageFilter.GaussianBlur(12)).point(lambda v: v * 0.5)
    table.paste((30, 20, 12), (10, 14), shadow)
    table.paste(paper, (0, 0), mask)
    y, x = np.mgrid[0:height, 0:width]
    light = 1.05 - 0.45 * np.hypot((x - 330) / width, (y - 420) / height)
    lit = np.asarray(table.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float32) * light[..., None]
    return noisy(Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)), 5, seed=8)


def text_pdf(path: Path, fonts: Fonts, pages: list[tuple[str, list[str]]], password: str = "") -> None:
    """A PDF that carries its text, with the fonts embedded as subsets."""
    pdfmetrics.registerFont(TTFont("body", fonts.path("DejaVuSerif.ttf")))
    pdfmetrics.registerFont(TTFont("head", fonts.path("DejaVuSans-Bold.ttf")))
    lock = StandardEncryption(password, ownerPassword=password, strength=128) if password else None
    canvas = Canvas(str(path), pagesize=A4, invariant=1, encrypt=lock)
    for number, (title, paragraphs) in enumerate(pages, start=1):
        canvas.setFont("head", 18)
        canvas.drawString(70, 760, title)
        lines = canvas.beginText(70, 725)
        lines.setFont("body", 11.5, leading=18)
        for paragraph in paragraphs:
            for line in layouts.wrap(paragraph, 66):
                lines.textLine(line)
            lines.textLine("")
        canvas.drawText(lines)
        canvas.setFont("body", 9)
        canvas.drawCentredString(A4[0] / 2, 40, f"Page {number} of {len(pages)}")
        canvas.showPage()
    canvas.save()


def make(fonts: Fonts, out: Path) -> None:
    """Write all samples into `out`."""
    layouts.invoice_zh(fonts).save(out / "invoice-zh.png", optimize=True)
    layouts.invoice_en(fonts).save(out / "invoice-en.jpg", quality=80)
    photographed(layouts.receipt(fonts)).save(out / "receipt-photo.jpg", quality=78)
    layouts.two_columns(fonts).save(out / "two-columns.png", optimize=True)
    layouts.form(fonts).save(out / "form.png", optimize=True)
    scanned(layouts.table(fonts), 0.3, seed=3).save(out / "table.jpg", quality=75)
    turned = layouts.notice_zh(fonts).transpose(Image.Transpose.ROTATE_270)
    turned.save(out / "notice-zh-turned.jpg", quality=80)

    text_pdf(out / "report-text.pdf", fonts, layouts.REPORT)
    text_pdf(out / "encrypted.pdf", fonts, layouts.REPORT[:1], password=PASSWORD)
    pages = [
        scanned(layouts.page(fonts, *text), askew, seed=20)
        for text, askew in zip(layouts.MINUTES, (0.6, -0.4), strict=True)
    ]
    pages[0].save(
        out / "minutes-scan.pdf", save_all=True, append_images=pages[1:], resolution=layouts.DPI,
        quality=70, creationDate=EPOCH, modDate=EPOCH,
    )  # fmt: skip
    frames = [layouts.page(fonts, *text).convert("1", dither=Image.Dither.NONE) for text in layouts.FAX]
    frames[0].save(
        out / "fax.tif", save_all=True, append_images=frames[1:], compression="group4",
        dpi=(layouts.DPI, layouts.DPI),
    )  # fmt: skip
    # A transfer that broke off: a sound header, and a third of the picture.
    whole = (out / "invoice-en.jpg").read_bytes()
    (out / "truncated.jpg").write_bytes(whole[: len(whole) // 3])


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--fonts", type=Path, default=Path("/usr/share/fonts"), help="searched with its subfolders"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "samples")
    options = parser.parse_args()
    make(Fonts(options.fonts), options.out)


if __name__ == "__main__":
    main()
