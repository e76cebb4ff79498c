"""Thumbnails: small pictures of pages that died, which hold up nobody."""

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fleet_builders import claimed_page
from PIL import Image

from ocrfleet.blobs import Blobs, NullBlobs
from ocrfleet.errors import StorageUnavailable
from ocrfleet.s3 import BlobInfo
from worker.engines.base import Pixels
from worker.thumbnails import Thumbnails, shrink


def gradient(height: int, width: int) -> Pixels:
    """Dark on the left, light on the right."""
    row = np.linspace(0, 255, width).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1000, 500), (160, 320)), ((100, 40), (40, 100)), ((320, 320), (320, 320)), ((9000, 30), (1, 320))],
)
def test_a_thumbnail_is_the_page_at_most_320_pixels_wide_and_high(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = Image.open(io.BytesIO(shrink(gradient(*size))))
    assert (image.format, image.size) == ("JPEG", expected)
    shown = np.asarray(image.convert("L")).astype(int)
    if expected[0] > 1:
        assert shown[:, 0].mean() < 20
        assert shown[:, -1].mean() > 235


def test_a_page_that_is_one_plane_three_times_is_taken_as_it_is() -> None:
    plane = gradient(400, 600)[:, :, :1]
    view = np.broadcast_to(plane, (400, 600, 3))
    assert view.strides[-1] == 0
    assert shrink(view) == shrink(np.ascontiguousarray(view))


class Recording(NullBlobs):
    """Remembers what is put."""

    def __init__(self) -> None:
        super().__init__(0)
        self.kept: dict[tuple[str, str], tuple[bytes, str]] = {}

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo:
        assert isinstance(data, bytes)
        self.kept[bucket, key] = data, content_type
        return super().put(bucket, key, data, content_type)


class Failing(NullBlobs):
    """Fails what is put with the error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(0)
        self._error = error

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo:
        self.refused = (bucket, key, data, content_type)
        raise self._error


class Silent(NullBlobs):
    """Does not answer before it is released, or much later."""

    def __init__(self) -> None:
        super().__init__(0)
        self.release = threading.Event()

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo:
        self.release.wait(5)
        return super().put(bucket, key, data, content_type)


async def keep(blobs: Blobs, patience: float = 30.0, *, broken_off: bool = False) -> str | None:
    page = claimed_page(id=17, fence=3)
    with ThreadPoolExecutor(1) as threads:
        keeping = asyncio.create_task(
            Thumbnails(blobs, "ours", patience).keep(threads, page, gradient(50, 80))
        )
        await asyncio.sleep(0)
        if broken_off:
            keeping.cancel()
        try:
            return await keeping
        finally:
            if isinstance(blobs, Silent):
                blobs.release.set()


def test_it_is_put_into_our_bucket_under_the_jobs_and_the_attempts_name() -> None:
    store = Recording()
    key = asyncio.run(keep(store))
    assert key == f"thumbnails/{claimed_page().job_id}/17-3.jpg"
    data, kind = store.kept["ours", key]
    assert (Image.open(io.BytesIO(data)).size, kind) == ((80, 50), "image/jpeg")


@pytest.mark.parametrize("error", [StorageUnavailable("no answer"), RuntimeError("a bug")])
def test_a_store_that_does_not_take_it_is_no_error(error: Exception) -> None:
    assert asyncio.run(keep(Failing(error))) is None


def test_a_store_that_does_not_answer_is_not_waited_for() -> None:
    assert asyncio.run(keep(Silent(), 0.05)) is None


def test_a_page_that_is_broken_off_meanwhile_ends_all_the_same() -> None:
    assert asyncio.run(keep(Silent(), broken_off=True)) is None
