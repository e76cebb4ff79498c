"""The format alto: for each input one ALTO 4 document, a page of it for each page, its boxes in pixels."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import IO, Any
from xml.sax.saxutils import quoteattr

from ocrfleet.blobs import Blobs
from ocrfleet.settings import Settings
from ocrfleet.store.export_reads import ExportItem
from producer.exports.base import TEXT_THREADS, FilePerItem, Format, Page, Work
from producer.exports.words import Box, Line, clean, lines, words

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_SCHEMA = "http://www.loc.gov/standards/alto/v4/alto-4-4.xsd"
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<alto xmlns="{namespace}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="{namespace} {schema}" SCHEMAVERSION="4.4">
<Description><MeasurementUnit>pixel</MeasurementUnit><sourceImageInformation><fileName>{name}</fileName></sourceImageInformation><Processing ID="ocr"><processingSoftware><softwareName>OCR Fleet</softwareName><softwareVersion>{version}</softwareVersion></processingSoftware></Processing></Description>
<Layout>
"""
_TAIL = "</Layout>\n</alto>\n"
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def make(settings: Settings, blobs: Blobs) -> Format:
    """Built once a producer."""
    del settings, blobs
    return FilePerItem(_write, ".xml", "application/xml", TEXT_THREADS)


def _write(work: Work, item: ExportItem, pages: Iterator[Page], file: IO[bytes]) -> bool:
    """Nothing for an input of which no page was read; a page that was not read has its place, without text."""
    del work
    name = clean(f"{item.bucket}/{item.name}").translate(_ENTITIES)
    head = _HEAD.format(namespace=NAMESPACE, schema=_SCHEMA, name=name, version=version("ocrfleet"))
    file.write(head.encode())
    read = False
    for page in pages:
        result = page.result
        read |= "image" in result
        for part in _page(page.number, result):
            file.write(part.encode())
    file.write(_TAIL.encode())
    return read


def _page(number: int, result: Mapping[str, Any]) -> Iterator[str]:
    image: Mapping[str, Any] = result.get("image") or {}
    named = f'ID="p{number}" PHYSICAL_IMG_NR="{number}" PROCESSINGREFS="ocr"'
    if not image:
        yield f"<Page {named}/>\n"
        return
    size = f'WIDTH="{image["width"]}" HEIGHT="{image["height"]}"'
    yield f'<Page {named} {size}>\n<PrintSpace HPOS="0" VPOS="0" {size}>\n'
    regions: Sequence[Mapping[str, Any]] = result.get("regions") or ()
    for n, block in enumerate(lines(regions), 1):
        around = (block[0].box[0], block[0].box[1], block[-1].box[2], block[-1].box[3])
        yield f'<TextBlock ID="p{number}b{n}" {_place(around)}>\n'
        for m, line in enumerate(block, 1):
            yield from _line(f"p{number}b{n}l{m}", line)
        yield "</TextBlock>\n"
    yield "</PrintSpace>\n</Page>\n"


def _line(name: str, line: Line) -> Iterator[str]:
    sure = "" if line.confidence is None else f' WC="{min(1.0, max(0.0, line.confidence)):.4g}"'
    yield f'<TextLine ID="{name}" {_place(line.box)}>'
    before: Box | None = None
    for n, (word, box) in enumerate(words(line), 1):
        if before is not None:
            yield f"<SP {_place(_between(before, box, line))}/>"
        yield f'<String ID="{name}w{n}" CONTENT={quoteattr(word)} {_place(box)}{sure}/>'
        before = box
    yield "</TextLine>\n"


def _between(before: Box, after: Box, line: Line) -> Box:
    if line.vertical:
        return before[0], before[3], before[2], after[1]
    return before[2], before[1], after[0], before[3]


def _place(box: Box) -> str:
    x0, y0, x1, y1 = box
    return f'HPOS="{x0:.6g}" VPOS="{y0:.6g}" WIDTH="{x1 - x0:.6g}" HEIGHT="{y1 - y0:.6g}"'
