"""Thumbnails: what a page that died looked like, small, in our own bucket, for whoever works the dead letters."""

import asyncio
import io
from concurrent.futures import Executor

import numpy as np
import structlog
from PIL import Image

from ocrfleet.blobs import Blobs
from ocrfleet.store.pages import ClaimedPage
from worker.engines.base import Pixels

log = structlog.get_logger()

SIDE = 320
QUALITY = 60
PATIENCE = 3.0
"""Seconds for which the page's end may wait for its thumbnail."""


def shrink(pixels: Pixels) -> bytes:
    """A JPEG of at most `SIDE` x `SIDE` pixels."""
    # A page of 100 MP is not copied whole for it.
    step = max(1, max(pixels.shape[:2]) // (8 * SIDE))
    image = Image.fromarray(np.ascontiguousarray(pixels[::step, ::step]))
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


class Thumbnails:
    """Puts them; a page without one is a page all the same."""

    def __init__(self, blobs: Blobs, bucket: str, patience: float = PATIENCE) -> None:
        self._blobs = blobs
        self._bucket = bucket
        self._patience = patience

    async def keep(self, threads: Executor, page: ClaimedPage, pixels: Pixels) -> str | None:
        """The key of the page's thumbnail; None if it could not be put in time. Raises nothing."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._patience):
                return await loop.run_in_executor(threads, self._put, page, pixels)
        except asyncio.CancelledError:
            # Its page has ended: there is nothing else to break off.
            return None
        except Exception as exc:  # noqa: BLE001 (whatever it is, the page ends without a thumbnail)
            log.warning("thumbnail_failed", page_id=page.id, error=str(exc) or type(exc).__name__)
            return None

    def _put(self, page: ClaimedPage, pixels: Pixels) -> str:
        key = f"thumbnails/{page.job_id}/{page.id}-{page.fence}.jpg"
        self._blobs.put(self._bucket, key, shrink(pixels), "image/jpeg")
        return key
