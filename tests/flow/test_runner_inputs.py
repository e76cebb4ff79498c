"""From an object of the real store to its pixels: documents, wrong names, changed and missing objects."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from fleet_builders import add_job, again_now, check_record, job, page_states, pages, results, send
from images import encoded, noise, pixel_hash
from odd_engines import FaultyEngine
from tcp_proxy import TcpProxy

from ocrfleet import blobs
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.documents import Limits
from ocrfleet.s3 import Fetched, S3Blobs
from ocrfleet.sandbox import Sandbox
from ocrfleet.settings import Settings
from ocrfleet.store.expansion import NewItem
from producer.count import Counter
from worker.engines.base import PageRequest, PageResult
from worker.engines.null import NullEngine
from worker.runner import Runner

Start = Callable[..., Runner]
SAMPLES = Path(__file__).parents[2] / "samples"


class CountingBlobs(S3Blobs):
    """The real store, and how often each key was fetched."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.fetched: list[str] = []

    def fetch(
        self, bucket: str, key: str, *, max_bytes: int, etag: str | None = None, version_id: str | None = None
    ) -> Fetched:
        self.fetched.append(key)
        return super().fetch(bucket, key, max_bytes=max_bytes, etag=etag, version_id=version_id)


class FirstPageFails(FaultyEngine):
    """Refuses what comes first, for good."""

    reads_pixels = True

    async def read(self, request: PageRequest) -> PageResult:
        if len(self.begun) == 1:
            request = PageRequest(
                request.request_id, request.task, None, options={"fault": "prompt_too_long"}
            )
        return await super().read(request)


@pytest.fixture
def put(store: Blobs) -> Callable[..., str]:
    """Puts an object under a key of its own, with this ending."""

    def put(data: bytes, name: str) -> str:
        key = f"inputs/{uuid4().hex}-{name}"
        store.put("ocr", key, data, "application/octet-stream")
        return key

    return put


Put = Callable[[bytes, str], str]


def three_pages(kind: str) -> bytes:
    return encoded(noise(1), kind, noise(2), noise(3))


def rendered_hashes(data: bytes, folder: Path, count: int) -> list[str]:
    """What the null engine should read on the pages, by a rendering of our own."""
    path = folder / "document"
    path.write_bytes(data)
    with Sandbox(1, Limits.of(Settings())) as sandbox:
        return [hashlib.sha256(sandbox.render(path, n).pixels).hexdigest() for n in range(1, count + 1)]


def counted_job(database: Database, store: Blobs, *items: NewItem) -> object:
    """A job whose documents have been counted."""
    job_id = add_job(database, items)
    counter = Counter(Settings(decode_processes=1), database, store)
    assert counter.step() == sum(item.countable for item in items)
    counter.close()
    return job_id


def test_an_image_is_read_as_it_was_put(
    database: Database, start_runner: Start, store: Blobs, put: Put
) -> None:
    runner = start_runner(NullEngine(Settings()), store=store)
    data = encoded(noise(7))
    job_id = add_job(database, [NewItem(0, "ocr", put(data, "7.png"))])
    assert runner.run(send(database, job_id)) == 1
    (line,) = results(database, job_id)
    assert line["text"] == pixel_hash(data)
    sha256 = hashlib.sha256(data).hexdigest()
    assert line["image"] == {"width": 120, "height": 160, "sha256": sha256, "rotation": 0}
    assert line["warnings"] == ["low_resolution"]
    assert line["timings_ms"].keys() == {"queue", "wait", "fetch", "cache", "decode", "infer"}


@pytest.mark.parametrize("kind", ["PDF", "TIFF"])
def test_a_document_is_fetched_once_for_all_its_pages(
    database: Database, start_runner: Start, s3: Settings, put: Put, tmp_path: Path, kind: str
) -> None:
    store = CountingBlobs(s3)
    runner = start_runner(NullEngine(Settings()), store=store)
    data = three_pages(kind)
    key = put(data, f"three.{kind.lower()}")
    job_id = counted_job(database, store, NewItem(0, "ocr", key, countable=True))
    store.fetched.clear()
    assert runner.run(send(database, job_id)) == 3  # type: ignore[arg-type]
    found = {line["page"]: line["text"] for line in results(database, job_id)}  # type: ignore[arg-type]
    assert [found[n] for n in (1, 2, 3)] == rendered_hashes(data, tmp_path, 3)
    assert len(set(found.values())) == 3
    assert store.fetched == [key]
    check_record(database, job_id)  # type: ignore[arg-type]


def test_a_pdf_named_like_an_image_grows_to_its_pages(
    database: Database, start_runner: Start, store: Blobs, put: Put, tmp_path: Path
) -> None:
    runner = start_runner(NullEngine(Settings()), store=store)
    data = three_pages("PDF")
    job_id = add_job(database, [NewItem(0, "ocr", put(data, "three.jpg"))])
    assert job(database, job_id).total == 1
    assert runner.run(send(database, job_id)) == 1
    assert page_states(database, job_id) == ["succeeded", "ready", "ready"]
    assert (job(database, job_id).total, job(database, job_id).state) == (3, "running")
    assert runner.run(send(database, job_id)) == 2
    found = {line["page"]: line["text"] for line in results(database, job_id)}
    assert [found[n] for n in (1, 2, 3)] == rendered_hashes(data, tmp_path, 3)
    assert job(database, job_id).state == "completed"
    check_record(database, job_id)


def test_its_other_pages_come_even_if_the_first_fails(
    database: Database, start_runner: Start, store: Blobs, put: Put
) -> None:
    runner = start_runner(FirstPageFails(), store=store)
    job_id = add_job(database, [NewItem(0, "ocr", put(three_pages("PDF"), "three.jpg"))])
    runner.run(send(database, job_id))
    assert page_states(database, job_id) == ["dead", "ready", "ready"]
    runner.run(send(database, job_id))
    assert page_states(database, job_id) == ["dead", "succeeded", "succeeded"]
    assert job(database, job_id).outcome == "partial"
    check_record(database, job_id)


def test_what_cannot_be_read_is_dead_with_its_code_and_its_neighbours_are_not(
    database: Database, start_runner: Start, store: Blobs, put: Put
) -> None:
    runner = start_runner(NullEngine(Settings()), store=store, max_object_bytes=1_000_000)
    good = encoded(noise(1))
    changed = put(good, "changed.png")
    etag = store.stat("ocr", changed).etag
    store.put("ocr", changed, encoded(noise(2)), "image/png")
    given = {
        changed: "input_changed",
        f"inputs/{uuid4().hex}.png": "input_not_found",
        put(b"", "empty.png"): "empty_file",
        put(b"hello, world", "text.png"): "unsupported_media_type",
        put((SAMPLES / "truncated.jpg").read_bytes(), "truncated.jpg"): "corrupt_file",
        put((SAMPLES / "encrypted.pdf").read_bytes(), "encrypted.jpg"): "encrypted_pdf",
        put(encoded(noise(1, (16, 16)).resize((3, 3))), "small.png"): "image_too_small",
        put(b"\x89PNG" + b"x" * 1_000_000, "large.png"): "file_too_large",
        put(good, "good.png"): None,
    }
    items = [
        NewItem(n, "ocr", key, etag=etag if code == "input_changed" else None)
        for n, (key, code) in enumerate(given.items())
    ]
    items.append(NewItem(len(items), "no-such-bucket", "a.png"))
    job_id = add_job(database, items)
    assert runner.run(send(database, job_id)) == len(items)
    codes = {line["key"]: line.get("error", {}).get("code") for line in results(database, job_id)}
    assert codes == {**given, "a.png": "input_not_found"}
    assert all(line["page"] == 1 for line in results(database, job_id))
    assert job(database, job_id).outcome == "partial"
    check_record(database, job_id)


def test_a_store_that_is_away_costs_a_page_nothing(
    database: Database, start_runner: Start, s3: Settings, put: Put
) -> None:
    key = put(encoded(noise(1)), "1.png")
    with TcpProxy(s3.store_url) as proxy:
        far = blobs.connect(s3.model_copy(update={"store_url": proxy.url, "store_timeout": 2.0}))
        runner = start_runner(NullEngine(Settings()), store=far)
        job_id = add_job(database, [NewItem(0, "ocr", key)])
        proxy.cut()
        runner.run(send(database, job_id))
        (page,) = pages(database, job_id)
        assert (page.state, page.failures, page.losses) == ("ready", 0, 0)
        proxy.restore()
        again_now(database, job_id)
        runner.run(send(database, job_id))
    assert page_states(database, job_id) == ["succeeded"]
