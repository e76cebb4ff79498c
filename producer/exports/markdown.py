"""The format markdown: for each input one file, its pages joined with comments that give their numbers."""

from collections.abc import Iterator
from typing import IO

from ocrfleet.blobs import Blobs
from ocrfleet.settings import Settings
from ocrfleet.states import PageState
from ocrfleet.store.export_reads import ExportItem
from producer.exports.base import TEXT_THREADS, FilePerItem, Format, Page, Work


def make(settings: Settings, blobs: Blobs) -> Format:
    """Built once a producer."""
    del settings, blobs
    return FilePerItem(_write, ".md", "text/markdown; charset=utf-8", TEXT_THREADS)


def _write(work: Work, item: ExportItem, pages: Iterator[Page], file: IO[bytes]) -> bool:
    """Nothing for an input of which no page was read."""
    del work
    read = 0
    for page in pages:
        # The first page of a document needs no break before it.
        if item.pages > 1 and (file.tell() or page.state is not PageState.SUCCEEDED):
            lacking = "" if page.state is PageState.SUCCEEDED else f": {page.code or page.state}"
            file.write(f"<!-- page {page.number}{lacking} -->\n\n".encode())
        if page.state is PageState.SUCCEEDED:
            read += 1
            text = text_of(page)
            file.write(f"{text}\n\n".encode() if text else b"")
    _end_with_one_newline(file)
    return read > 0


def text_of(page: Page) -> str:
    """What a page says, as Markdown where its task gives it."""
    result = page.result
    return (result.get("markdown") or result.get("text") or "").rstrip()


def _end_with_one_newline(file: IO[bytes]) -> None:
    if file.tell() > 1:
        file.truncate(file.tell() - 1)
