"""From a claimed page to pixels: fetch, sniff, decode. Blocking; the runner calls it on its threads."""

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path

from ocrfleet import catalogue
from ocrfleet.blobs import Blobs
from ocrfleet.documents import COUNTED, HEAD_BYTES, Decoded, Limits, decode_image, sniff
from ocrfleet.s3 import Fetched
from ocrfleet.sandbox import Sandbox
from ocrfleet.settings import Settings
from ocrfleet.store.pages import ClaimedPage
from worker.doccache import Document, DocumentCache
from worker.engines.base import Pixels

_ROUNDING = 0.99


@dataclass(frozen=True, slots=True)
class Loaded:
    """A page ready for the engine."""

    pixels: Pixels
    warnings: tuple[str, ...]
    sha256: str
    """Of the object's bytes, in hex."""
    fetch_ms: int
    decode_ms: int

    @property
    def seconds(self) -> float:
        return (self.fetch_ms + self.decode_ms) / 1000


@dataclass(slots=True)
class Found:
    """What loading a page finds out about its item, even if the page itself then fails."""

    page_count: int | None = None
    """Set when an object taken for a single image turned out to have pages."""


class Loader:
    """Fetches and decodes pages. Pages of one document share one fetch; documents are opened in a sandbox only."""

    def __init__(self, settings: Settings, blobs: Blobs) -> None:
        self._limits = _limits(settings)
        self._blobs = blobs
        self._max_bytes = settings.max_object_bytes
        self._sandbox = Sandbox(settings.decode_processes, self._limits)
        self._documents = DocumentCache(settings.document_cache_bytes)

    def load(self, page: ClaimedPage, found: Found) -> Loaded:
        """The page's pixels; a FleetError says why there are none."""
        if page.page_count is not None and page.page_count > 1:
            return self._load_from_document(page, found)
        started = time.monotonic()
        fetched = self._fetch(page)
        fetched_at = time.monotonic()
        if sniff(fetched.data[:HEAD_BYTES]) in COUNTED:
            return self._load_from_document(page, found, fetched)
        sha256 = hashlib.sha256(fetched.data).hexdigest()
        decoded = decode_image(fetched.data, 0, self._limits)
        return _loaded(decoded, sha256, started, fetched_at)

    def _fetch(self, page: ClaimedPage) -> Fetched:
        return self._blobs.fetch(
            page.bucket, page.key, max_bytes=self._max_bytes, etag=page.etag, version_id=page.version_id
        )

    def _load_from_document(self, page: ClaimedPage, found: Found, fetched: Fetched | None = None) -> Loaded:
        started = time.monotonic()
        password = page.all_options.get("password")
        with self._documents.use(page.item_id, lambda: (fetched or self._fetch(page)).data) as document:
            fetched_at = time.monotonic()
            found.page_count = self._count(page, document, password)
            decoded = self._sandbox.render(document.path, page.number, password, one_plane=True)
            return _loaded(decoded, document.sha256, started, fetched_at)

    def _count(self, page: ClaimedPage, document: Document, password: str | None) -> int | None:
        """Count what expansion took for a single image by its name."""
        if page.page_count is not None:
            return None
        pages = self._sandbox.count(Path(document.path), password).pages
        return pages if pages > 1 else None

    def close(self) -> None:
        self._sandbox.close()
        self._documents.close()


def _limits(settings: Settings) -> Limits:
    """Pages for an engine that scales them down are rendered no larger than it takes them."""
    limits = Limits.of(settings)
    if not catalogue.generates(settings.engine):
        return limits
    # Sides are rounded up; a page a little over the engine's limit would be scaled after all.
    wanted = int(_ROUNDING * settings.max_pixels)
    return replace(limits, render_max_pixels=min(limits.render_max_pixels, wanted))


def _loaded(decoded: Decoded, sha256: str, started: float, fetched_at: float) -> Loaded:
    fetch_ms = round((fetched_at - started) * 1000)
    decode_ms = round((time.monotonic() - fetched_at) * 1000)
    return Loaded(decoded.pixels, decoded.warnings, sha256, fetch_ms, decode_ms)
