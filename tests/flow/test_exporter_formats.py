"""Searchable PDFs: what readers of them find, and where."""

import io
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import numpy as np
import pypdfium2 as pdfium
import pytest
from exports_rig import Kept, ask, ended_job, run_all, settle_all, state
from fleet_builders import add_job, sql
from PIL import Image, ImageDraw

from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile, OutputTruncated
from ocrfleet.store.expansion import NewItem

DPI = 200
Found = dict[str, tuple[float, float, float, float]]
"""Words, and where they are: x0, y0, x1, y1 in points from the upper left corner."""
Words = Callable[[bytes, int], Found]


@pytest.fixture
def store() -> Kept:
    return Kept()


def region(words: str, *box: int, **more: Any) -> dict[str, Any]:
    return {"text": words, "box": list(box), "confidence": 0.9, **more}


def result(width: int, height: int, *regions: dict[str, Any], rotation: int = 0) -> dict[str, Any]:
    text = "\n".join(one["text"] for one in regions)
    image = {"width": width, "height": height, "sha256": "s", "rotation": rotation}
    return {"text": text, "regions": list(regions), "image": image}


def picture(width: int, height: int, kind: str = "JPEG", **options: Any) -> bytes:
    """Not blank, and not gray."""
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).rectangle((width // 8, height // 8, width // 2, height // 5), fill=(200, 30, 30))
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def export(database: Database, store: Kept, kind: str, job_id: UUID) -> dict[str, Any]:
    export_id = ask(database, job_id, kind)
    run_all(database, store)
    return state(database, export_id)


def words_by_pdftotext(data: bytes, page: int) -> Found:
    ran = subprocess.run(
        ["pdftotext", "-bbox", "-f", str(page), "-l", str(page), "-", "-"],
        input=data,
        capture_output=True,
        check=True,
    )
    assert ran.stderr in (b"", b"no word list\n")
    tree = ElementTree.fromstring(ran.stdout.replace(b' xmlns="http://www.w3.org/1999/xhtml"', b""))  # noqa: S314
    return {
        word.text or "": tuple(float(word.attrib[side]) for side in ("xMin", "yMin", "xMax", "yMax"))
        for word in tree.iter("word")
    }  # type: ignore[return-value]


def words_by_pdfium(data: bytes, page: int) -> Found:
    with pdfium.PdfDocument(data) as document:
        sheet = document[page - 1]
        text, height = sheet.get_textpage(), sheet.get_height()
        said = text.get_text_range()
        found: Found = {}
        at = 0
        for word in said.split():
            at = said.index(word, at)
            boxes = [text.get_charbox(n) for n in range(at, at + len(word))]
            left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
            found[word] = (
                left,
                height - max(box[3] for box in boxes),
                right,
                height - min(box[1] for box in boxes),
            )
            at += len(word)
        return found


@pytest.fixture(params=["pdfium", "pdftotext"])
def words(request: pytest.FixtureRequest) -> Words:
    """Where a reader of PDFs finds the words of a page."""
    if request.param == "pdftotext" and not shutil.which("pdftotext"):
        pytest.skip("there is no pdftotext (poppler-utils) on PATH")
    return words_by_pdfium if request.param == "pdfium" else words_by_pdftotext


def close(found: tuple[float, ...], box: tuple[float, ...], dpi: float = DPI, slack: float = 1.0) -> bool:
    """Whether a place in points is that box in pixels."""
    return all(abs(side - wanted * 72 / dpi) <= slack for side, wanted in zip(found, box, strict=True))


def test_a_reader_finds_the_words_of_a_pdf_at_their_places(
    database: Database, store: Kept, words: Words
) -> None:
    page = result(
        800,
        1000,
        region("Invoice 2026-00418", 100, 100, 500, 140),
        region("销售发票 购买方", 100, 200, 400, 240),
    )
    store.objects["in", "a.jpg"] = picture(800, 1000)
    export(database, store, "pdf", ended_job(database, {"a.jpg": [page]}))
    found = words(store.under()["a.jpg.pdf"], 1)
    assert set(found) == {"Invoice", "2026-00418", "销售发票", "购买方"}
    # The ends of each line are its box's; the words share it by their width.
    assert close(
        (*found["Invoice"][:2], found["2026-00418"][2], found["2026-00418"][3]), (100, 100, 500, 140)
    )
    assert close((*found["销售发票"][:2], found["购买方"][2], found["购买方"][3]), (100, 200, 400, 240))
    assert found["Invoice"][2] < found["2026-00418"][0]
    assert close((found["Invoice"][2],), (244,), slack=1.0)


def test_text_is_searchable_whatever_it_is_made_of(database: Database, store: Kept, words: Words) -> None:
    page = result(
        800,
        1000,
        region("竖排文字", 700, 100, 730, 400),
        region("first\nsecond", 100, 500, 300, 580),
        region("\x01\x02", 10, 10, 20, 20),
        region("", 1, 1, 9, 9, label="figure"),
        # Last: PDFium counts these characters twice.
        region("𠮷野家 😀", 100, 600, 500, 640),
    )
    store.objects["in", "a.jpg"] = picture(800, 1000)
    export(database, store, "pdf", ended_job(database, {"a.jpg": [page]}))
    found = words(store.under()["a.jpg.pdf"], 1)
    assert {"𠮷野家", "竖排文字", "first", "second"} <= set(found)
    assert close(found["竖排文字"], (700, 100, 730, 400), slack=2.0)
    assert close((found["first"][1], found["second"][3]), (500, 580))


def test_the_bytes_of_an_upright_jpeg_are_in_the_pdf_as_they_were(database: Database, store: Kept) -> None:
    plain = picture(800, 1000, dpi=(300, 300))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = picture(800, 1000, exif=exif)
    png = picture(800, 1000, "PNG")
    for key, data in {"plain.jpg": plain, "turned.jpg": turned, "a.png": png}.items():
        store.objects["in", key] = data
    upright, lying = result(800, 1000, region("Word", 100, 100, 300, 140)), result(1000, 800)
    job_id = ended_job(database, {"plain.jpg": [upright], "turned.jpg": [lying], "a.png": [upright]})
    assert export(database, store, "pdf", job_id)["state"] == "completed"
    files = store.under()
    assert plain in files["plain.jpg.pdf"]
    assert turned not in files["turned.jpg.pdf"]
    sizes = {name: size_and_look(files[f"{name}.pdf"]) for name in ("plain.jpg", "turned.jpg", "a.png")}
    assert sizes["plain.jpg"][0] == (192, 240), "of 300 pixels an inch, as the JPEG says"
    assert sizes["turned.jpg"][0] == (360, 288)
    assert sizes["a.png"][0] == (288, 360)
    # The red rectangle is where it was; of the turned one in the upper right.
    assert sizes["plain.jpg"][1] == sizes["a.png"][1] == (True, False)
    assert sizes["turned.jpg"][1] == (False, True)


def size_and_look(data: bytes) -> tuple[tuple[int, int], tuple[bool, bool]]:
    """Of the first page: its points, and whether it is red at the upper left and upper right."""
    with pdfium.PdfDocument(data) as document:
        page = document[0]
        pixels = np.asarray(page.render().to_pil().convert("RGB")).astype(int)
        high, wide = pixels.shape[:2]
        spots = [pixels[int(high * 0.16), int(wide * across)] for across in (0.3, 0.84)]
        red = tuple(bool(spot[0] > 150 and spot[1] < 90) for spot in spots)
        return (round(page.get_width()), round(page.get_height())), red  # type: ignore[return-value]


def test_a_page_that_the_engine_turned_is_turned_in_the_pdf(
    database: Database, store: Kept, words: Words
) -> None:
    """The stored picture lies on its side; its boxes are those of the upright page."""
    store.objects["in", "a.jpg"] = picture(1000, 800)
    page = result(800, 1000, region("Upright", 100, 100, 300, 140), rotation=90)
    export(database, store, "pdf", ended_job(database, {"a.jpg": [page]}))
    data = store.under()["a.jpg.pdf"]
    assert close(words(data, 1)["Upright"], (100, 100, 300, 140))
    # Clockwise: what was at the upper left is at the upper right.
    assert size_and_look(data) == ((288, 360), (False, True))


def test_a_document_keeps_its_pages_also_those_that_were_not_read(
    database: Database, store: Kept, words: Words
) -> None:
    frames = [Image.new("L", (400, 500), shade) for shade in (255, 200, 90)]
    frames[0].putpixel((5, 5), 0)
    buffer = io.BytesIO()
    frames[0].save(buffer, "TIFF", save_all=True, append_images=frames[1:])
    store.objects["in", "a.tif"] = buffer.getvalue()
    pages = [
        result(400, 500, region("One", 10, 10, 60, 30)),
        OutputTruncated("too long"),
        # Read at half the size, as by an engine that scales pages down.
        result(200, 250, region("Three", 100, 100, 180, 120)),
    ]
    export(database, store, "pdf", ended_job(database, {"a.tif": pages}))
    data = store.under()["a.tif.pdf"]
    with pdfium.PdfDocument(data) as document:
        assert len(document) == 3
        shades = [document[n].render().to_pil().convert("L").getpixel((70, 100)) for n in range(3)]
    assert [abs(int(shade) - wanted) < 4 for shade, wanted in zip(shades, (255, 200, 90), strict=True)] == [
        True
    ] * 3  # type: ignore[arg-type]
    assert close(words(data, 3)["Three"], (200, 200, 360, 240))
    assert words(data, 2) == {}
    assert store.manifest()[0]["state"] == "partial"


def test_what_is_gone_from_the_bucket_costs_its_own_pdf_only(database: Database, store: Kept) -> None:
    store.objects["in", "b.jpg"] = picture(80, 100)
    page = result(80, 100, region("x", 1, 1, 9, 9))
    items = {"a.jpg": [page], "b.jpg": [page], "c.jpg": [CorruptFile("torn")]}
    ended = export(database, store, "pdf", ended_job(database, items))
    assert [(line["output"], line["code"]) for line in store.manifest()] == [
        (None, "input_not_found"),
        ("b.jpg.pdf", None),
        (None, "corrupt_file"),
    ]
    assert (ended["state"], ended["failed"]) == ("completed", 2)


def test_members_of_an_archive_have_files_of_their_own(database: Database, store: Kept) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("in/one.jpg", picture(80, 100))
    store.objects["in", "scans.zip"] = buffer.getvalue()
    job_id = add_job(database, [NewItem(0, "in", "scans.zip")])
    sql(database, "UPDATE items SET member = 'in/one.jpg'")
    settle_all(database, job_id, {"scans.zip": [result(80, 100, region("x", 1, 1, 9, 9))]})
    export(database, store, "pdf", job_id)
    (line,) = store.manifest()
    assert (line["member"], line["output"], line["code"]) == ("in/one.jpg", "scans.zip/in/one.jpg.pdf", None)
