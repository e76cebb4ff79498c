"""The format jsonl: for each input a file of its result and error lines, as GET …/results gives them, by page."""

from collections.abc import Iterator
from typing import IO

from ocrfleet.blobs import Blobs
from ocrfleet.settings import Settings
from ocrfleet.store.export_reads import ExportItem
from producer.exports.base import TEXT_THREADS, FilePerItem, Format, Page, Work


def make(settings: Settings, blobs: Blobs) -> Format:
    """Built once a producer."""
    del settings, blobs
    return FilePerItem(_write, ".jsonl", "application/x-ndjson", TEXT_THREADS)


def _write(work: Work, item: ExportItem, pages: Iterator[Page], file: IO[bytes]) -> bool:
    del work, item
    for page in pages:
        file.write(page.line)
    return file.tell() > 0
