"""The format pdf: for each input one PDF of its page images, with their text, which is not seen, where it stands."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import IO, Any

from ocrfleet.blobs import Blobs
from ocrfleet.errors import CallerError, NeverError
from ocrfleet.settings import Settings
from ocrfleet.store.export_reads import ExportItem
from producer.exports.base import FilePerItem, Format, Page, Work
from producer.exports.pdf_file import PdfFile, Picture, Sheet
from producer.exports.pictures import Pictures
from producer.exports.words import clean, lines

_READ = frozenset({"succeeded", "partial"})
_BLANK = (1654, 2339)
"""A4, for a page of which nothing is known."""


def make(settings: Settings, blobs: Blobs) -> Format:
    """Built once a producer."""
    return Pdf(settings, blobs)


class Pdf(FilePerItem):
    """Renders with a few sandboxed processes, as the counter counts with."""

    items_at_once = 50
    pages_at_once = 200

    def __init__(self, settings: Settings, blobs: Blobs) -> None:
        super().__init__(self._make, ".pdf", "application/pdf", settings.decode_processes)
        self._dpi = float(settings.render_dpi)
        self._pictures = Pictures(settings, blobs)

    def _make(self, work: Work, item: ExportItem, pages: Iterator[Page], file: IO[bytes]) -> bool:
        """Nothing for an input of which no page was read."""
        if item.state not in _READ:
            return False
        work.check_readable(item)
        pdf = PdfFile(file, clean(item.name))
        password = {**work.export.options, **(item.options or {})}.get("password")
        with self._pictures.use(item, password) as picture:
            for page in pages:
                work.beat()
                pdf.add(self._sheet(picture, page))
        pdf.close()
        return True

    def _sheet(self, picture_of: Callable[[int], Picture], page: Page) -> Sheet:
        result = page.result
        image: Mapping[str, Any] = result.get("image") or {}
        rotation = int(image.get("rotation", 0))
        picture = _picture(picture_of, page.number, must="image" in result)
        across, down = (picture.width, picture.height) if picture else _BLANK
        if picture and rotation % 180:
            across, down = down, across
        # Boxes are pixels of the image that was read, which another setting may have rendered in another size.
        width, height = image.get("width", across), image.get("height", down)
        dpi = (picture.dpi if picture else None) or self._dpi
        regions = result.get("regions") or ()
        return Sheet(
            width, height, dpi * width / across, picture, rotation, chain.from_iterable(lines(regions))
        )

    def close(self) -> None:
        super().close()
        self._pictures.close()


def _picture(picture_of: Callable[[int], Picture], number: int, *, must: bool) -> Picture | None:
    """A page that was never read may have no picture either: its place stays, empty."""
    try:
        return picture_of(number)
    except (CallerError, NeverError):
        if must:
            raise
        return None
