"""From a claimed page to pixels: fetch, sniff, decode. Blocking; the runner calls it on its threads."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ocrfleet import catalogue
from ocrfleet.archives import Bounds
from ocrfleet.blobs import Blobs
from ocrfleet.doccache import Document, DocumentCache, taken_out
from ocrfleet.documents import COUNTED, HEAD_BYTES, Decoded, Limits, parse_pages, sniff, sniff_archive
from ocrfleet.inputs import member_item
from ocrfleet.rights import Rights
from ocrfleet.s3 import Fetched
from ocrfleet.sandbox import Sandbox
from ocrfleet.settings import Settings
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.pages import ClaimedPage
from worker.engines.base import Pixels

_ROUNDING = 0.99

Recall = Callable[[str], str | None]
"""From the SHA-256 of an object to the body of the page's earlier result."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A page ready for the engine."""

    pixels: Pixels
    warnings: tuple[str, ...]
    sha256: str
    """Of the object's bytes, in hex."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A page that needs no engine: its result is known."""

    body: str


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A redriven page that stands for an archive: the files in it take its place."""

    members: Sequence[NewItem]


@dataclass(slots=True)
class Found:
    """What leading a page finds out on the way, even if the page itself then fails."""

    queued_ms: int = 0
    began: float = field(default_factory=time.monotonic)
    page_count: int | None = None
    """Set when an object taken for a single image turned out to have pages."""
    cache_key: bytes | None = None
    """Set when the page's result may be kept, or was found."""
    pixels: Pixels | None = None
    """Set when the page was decoded."""
    bytes: int = 0
    """The page's share of its object."""
    timings_ms: dict[str, int] = field(default_factory=dict[str, int])

    @contextmanager
    def timed(self, phase: str) -> Generator[None]:
        """Note how long the phase took, however it ends."""
        began = time.monotonic()
        try:
            yield
        finally:
            spent = round((time.monotonic() - began) * 1000)
            self.timings_ms[phase] = self.timings_ms.get(phase, 0) + spent

    def all_timings(self) -> dict[str, int]:
        """With what lay before them and between them: the queue, and the wait for a turn."""
        elapsed = round((time.monotonic() - self.began) * 1000)
        wait = max(0, elapsed - sum(self.timings_ms.values()))
        return {"queue": self.queued_ms, "wait": wait, **self.timings_ms}


class Loader:
    """Fetches and decodes pages. Pages of one document share one fetch; what is risky is opened in a sandbox only."""

    def __init__(self, settings: Settings, blobs: Blobs) -> None:
        self.limits = _limits(settings)
        self._blobs = blobs
        self._bucket = settings.bucket
        self._max_bytes = settings.max_object_bytes
        self._sandbox = Sandbox(settings.decode_processes, self.limits)
        self._documents = DocumentCache(settings.document_cache_bytes)
        self._bounds = Bounds.of(settings)

    def load(self, page: ClaimedPage, found: Found, recall: Recall) -> Loaded | Recalled | Unpacked:
        """The page's pixels, or what makes them needless; a FleetError says why there are none."""
        if page.page_count is not None and page.page_count > 1:
            return self._load_from_document(page, found, recall)
        with found.timed("fetch"):
            fetched = self._fetch(page)
        if _is_archive(page, fetched):
            with found.timed("decode"):
                return self._unpack(page, fetched)
        if sniff(fetched.data[:HEAD_BYTES]) in COUNTED:
            return self._load_from_document(page, found, recall, fetched)
        found.bytes = len(fetched.data)
        _check_wanted(page, 1)
        if known := _recalled(recall, fetched.sha256):
            return known
        with found.timed("decode"):
            decoded = self._sandbox.decode(fetched.data)
        return _loaded(decoded, fetched.sha256)

    def _fetch(self, page: ClaimedPage) -> Fetched:
        if page.redriven:
            # Also what its job was refused for, since it is none of the tenant's.
            named = None if page.buckets is None else tuple(page.buckets)
            Rights(self._bucket, page.tenant_id, named, page.job_id).check_readable(page.bucket, page.key)
        fetch = partial(
            self._blobs.fetch,
            page.bucket,
            page.key,
            max_bytes=self._max_bytes,
            etag=page.etag,
            version_id=page.version_id,
        )
        if page.member is None:
            return fetch()
        archive = (page.bucket, page.key, page.etag, page.version_id)
        with self._documents.use(archive, fetch, self._bounds) as document:
            return taken_out(self._sandbox, document, page.member, self._bounds)

    def _unpack(self, page: ClaimedPage, fetched: Fetched) -> Unpacked:
        info = fetched.info
        # Under the version that its members will be asked for.
        key = (page.bucket, page.key, page.etag or info.etag, page.version_id or info.version_id)
        with self._documents.use(key, lambda: fetched, self._bounds) as archive:
            found = self._sandbox.members(archive.path, self._bounds)
        return Unpacked([member_item(n, one, info, ranged=False) for n, one in enumerate(found)])

    def _load_from_document(
        self, page: ClaimedPage, found: Found, recall: Recall, fetched: Fetched | None = None
    ) -> Loaded | Recalled:
        password = page.all_options.get("password")
        with ExitStack() as use:
            with found.timed("fetch"):
                get = partial(self._fetch, page) if fetched is None else lambda: fetched
                document = use.enter_context(self._documents.use(page.item_id, get))
            with found.timed("decode"):
                # Before it is recalled: the other pages of a document in disguise come with its first one.
                found.page_count = self._count(page, document, password)
            found.bytes = _share(document.size, page.number, page.page_count or found.page_count or 1)
            if known := _recalled(recall, document.sha256):
                return known
            with found.timed("decode"):
                decoded = self._sandbox.render(document.path, page.number, password, one_plane=True)
            return _loaded(decoded, document.sha256)

    def _count(self, page: ClaimedPage, document: Document, password: str | None) -> int | None:
        """Count what expansion took for a single image by its name."""
        if page.page_count is not None:
            return None
        pages = self._sandbox.count(Path(document.path), password).pages
        _check_wanted(page, pages)
        return pages if pages > 1 else None

    def close(self) -> None:
        self._sandbox.close()
        self._documents.close()


def _is_archive(page: ClaimedPage, fetched: Fetched) -> bool:
    """Whether the page is an archive that could not be listed when its job was expanded."""
    whole = page.redriven and page.page_count is None and page.member is None
    return whole and sniff_archive(fetched.data[:HEAD_BYTES]) is not None


def _recalled(recall: Recall, sha256: str) -> Recalled | None:
    body = recall(sha256)
    return None if body is None else Recalled(body)


def _share(size: int, page: int, pages: int) -> int:
    """The part of a document's bytes that falls to one page: those of all pages are the whole."""
    return size * page // pages - size * (page - 1) // pages


def _check_wanted(page: ClaimedPage, pages: int) -> None:
    """Refuse the range of pages that counting the item, which failed before a redrive, would have refused."""
    wanted = page.all_options.get("pages")
    if page.page_count is None and wanted:
        parse_pages(wanted, pages)


def _limits(settings: Settings) -> Limits:
    """Pages for an engine that scales them down are rendered no larger than it takes them."""
    limits = Limits.of(settings)
    if not catalogue.generates(settings.engine):
        return limits
    # Sides are rounded up; a page a little over the engine's limit would be scaled after all.
    wanted = int(_ROUNDING * settings.max_pixels)
    return replace(limits, render_max_pixels=min(limits.render_max_pixels, wanted))


def _loaded(decoded: Decoded, sha256: str) -> Loaded:
    return Loaded(decoded.pixels, decoded.warnings, sha256)
