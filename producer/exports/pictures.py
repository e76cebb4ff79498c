"""The pictures of an input's pages for a PDF: the bytes of a JPEG as they are, any other page rendered in the sandbox."""

import io
import zlib
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocrfleet.archives import Bounds
from ocrfleet.blobs import Blobs
from ocrfleet.doccache import Document, DocumentCache, taken_out
from ocrfleet.documents import COUNTED, HEAD_BYTES, Limits, Pixels, sniff
from ocrfleet.s3 import Fetched
from ocrfleet.sandbox import Sandbox
from ocrfleet.settings import Settings
from ocrfleet.store.export_reads import ExportItem
from producer.exports import jpeg
from producer.exports.pdf_file import Picture

QUALITY = 85
"""Of a page that has to be encoded."""


class Pictures:
    """Fetches inputs, each once for its pages; `use` what comes first."""

    def __init__(self, settings: Settings, blobs: Blobs) -> None:
        self._blobs = blobs
        self._max_bytes = settings.max_object_bytes
        self._sandbox = Sandbox(settings.decode_processes, Limits.of(settings))
        self._documents = DocumentCache(settings.document_cache_bytes)
        self._bounds = Bounds.of(settings)

    @contextmanager
    def use(self, item: ExportItem, password: str | None) -> Generator[Callable[[int], Picture]]:
        """A function from the number of a page, from 1, to its picture, as it is stored; FleetErrors as when it was read.

        Nothing is fetched before it is asked.
        """
        with ExitStack() as use:
            held: list[Document] = []

            def page(number: int) -> Picture:
                if not held:
                    fetch = partial(self._fetch, item)
                    held.append(use.enter_context(self._documents.use(("item", item.id), fetch)))
                return self._page(held[0].path, number, password)

            yield page

    def _page(self, path: Path, number: int, password: str | None) -> Picture:
        with path.open("rb") as file:
            counted = sniff(file.read(HEAD_BYTES)) in COUNTED
        if counted:
            return encoded(self._sandbox.render(path, number, password, one_plane=True).pixels)
        data = path.read_bytes()
        found = jpeg.look(data)
        if found is None:
            return encoded(self._sandbox.decode(data).pixels)
        return Picture(data, "DCTDecode", found.width, found.height, found.components, dpi=found.dpi)

    def _fetch(self, item: ExportItem) -> Fetched:
        fetch = partial(
            self._blobs.fetch,
            item.bucket,
            item.key,
            max_bytes=self._max_bytes,
            etag=item.etag,
            version_id=item.version_id,
        )
        if item.member is None:
            return fetch()
        archive = ("object", item.bucket, item.key, item.etag, item.version_id)
        with self._documents.use(archive, fetch, self._bounds) as document:
            return taken_out(self._sandbox, document, item.member, self._bounds)

    def close(self) -> None:
        self._sandbox.close()
        self._documents.close()


def encoded(pixels: Pixels) -> Picture:
    """Black and white without loss, anything else as a JPEG, gray where there is no colour."""
    height, width = pixels.shape[:2]
    gray = _gray(pixels)
    if gray is not None and bool(((gray == 0) | (gray == 255)).all()):
        bits = np.packbits(gray > 0, axis=1).tobytes()
        return Picture(zlib.compress(bits), "FlateDecode", width, height, 1, bits=1)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels) if gray is None else gray).save(
        buffer, "JPEG", quality=QUALITY
    )
    return Picture(buffer.getvalue(), "DCTDecode", width, height, 3 if gray is None else 1)


def _gray(pixels: Pixels) -> NDArray[np.uint8] | None:
    """The one plane of a page without colour."""
    first = pixels[:, :, 0]
    same = pixels.strides[2] == 0 or all(bool((pixels[:, :, n] == first).all()) for n in (1, 2))
    return np.ascontiguousarray(first) if same else None
