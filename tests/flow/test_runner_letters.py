"""What a runner leaves of a page that fails: who tried it, when, and what it looked like; and how it is redriven."""

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from fleet_builders import (
    PATIENCE,
    add_job,
    attempts,
    check_record,
    pages,
    results,
    send,
    sql,
    tenant_id,
    wait_for,
)
from images import encoded, noise
from odd_engines import FaultyEngine, SeeingEngine
from PIL import Image

from ocrfleet.blobs import NullBlobs
from ocrfleet.db import Database
from ocrfleet.errors import EncryptedPdf
from ocrfleet.s3 import BlobInfo
from ocrfleet.settings import Settings
from ocrfleet.store import counting, expansion, redrives, workers
from ocrfleet.store.expansion import CountedItem, NewItem
from ocrfleet.store.letters import LetterFilter
from ocrfleet.store.redrives import NewRedrive
from worker import identity
from worker.engines.null import NullEngine
from worker.runner import Runner

Start = Callable[..., Runner]
FATAL = {"fault": "prompt_too_long"}


class KeepingStore(NullBlobs):
    """One object under every key; keeps what is put, once it may."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self.image = data
        self.kept: dict[tuple[str, str], bytes] = {}
        self.may = threading.Event()
        self.may.set()

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo:
        assert isinstance(data, bytes)
        assert self.may.wait(PATIENCE)
        self.kept[bucket, key] = data
        return super().put(bucket, key, data, content_type)


@pytest.fixture
def store() -> KeepingStore:
    return KeepingStore(encoded(noise(1, (1200, 600))))


def items(*options: dict[str, Any] | None) -> list[NewItem]:
    return [NewItem(n, "in", f"{n}.png", options=given) for n, given in enumerate(options)]


def redrive(database: Database, override: dict[str, Any]) -> None:
    with database.transaction() as session:
        new = NewRedrive(tenant_id(session), LetterFilter(all=True), override)
        redrives.create(session, new, "a-key")


def test_a_page_that_dies_leaves_a_picture_and_one_that_succeeds_does_not(
    database: Database, start_runner: Start, store: KeepingStore
) -> None:
    runner = start_runner(SeeingEngine(), store=store, bucket="ours")
    job_id = add_job(database, items(FATAL, None))
    runner.run(send(database, job_id))
    (attempt,) = attempts(database, job_id)
    dead = pages(database, job_id)[0]
    assert attempt.thumbnail == f"thumbnails/{job_id}/{dead.id}-{dead.fence}.jpg"
    ((place, data),) = store.kept.items()
    assert place == ("ours", attempt.thumbnail)
    assert Image.open(io.BytesIO(data)).size == (320, 160)
    check_record(database, job_id)


def test_a_page_that_is_tried_again_or_was_not_decoded_leaves_none(
    database: Database, start_runner: Start, store: KeepingStore
) -> None:
    seeing = start_runner(SeeingEngine(), store=store)
    again = add_job(database, items({"fault": "repetition_loop"}))
    seeing.run(send(database, again))
    blind = start_runner(FaultyEngine(), store=store)
    unseen = add_job(database, items(FATAL))
    blind.run(send(database, unseen))
    torn = start_runner(SeeingEngine(), store=(other := KeepingStore(b"\x89PNG\r\n\x1a\n torn")))
    undecoded = add_job(database, items(None))
    torn.run(send(database, undecoded))
    assert [attempts(database, one)[0].thumbnail for one in (again, unseen, undecoded)] == [None] * 3
    assert (store.kept, other.kept) == ({}, {})


def test_a_picture_that_takes_long_holds_up_no_other_page(
    database: Database, start_runner: Start, threads: ThreadPoolExecutor, store: KeepingStore
) -> None:
    runner = start_runner(SeeingEngine(), store=store)
    job_id = add_job(database, items(FATAL, *[None] * 9))
    store.may.clear()
    batch = threads.submit(runner.run, send(database, job_id))
    wait_for(lambda: len(results(database, job_id)) == 9)
    assert pages(database, job_id)[0].state in ("running", "dead")
    store.may.set()
    assert batch.result(PATIENCE) == 10
    assert pages(database, job_id)[0].state == "dead"
    check_record(database, job_id)


def test_an_attempt_names_its_worker_and_lasts_from_the_claim_to_the_end(
    database: Database, start_runner: Start, store: KeepingStore
) -> None:
    runner = start_runner(SeeingEngine(), store=store)
    registration = identity.registration(
        Settings(worker_name="gpu-0", device="cuda:0"), runner.incarnation, runner.info
    )
    with database.transaction() as session:
        workers.register(session, registration)
    job_id = add_job(database, items(FATAL))
    runner.run(send(database, job_id))
    (attempt,) = attempts(database, job_id)
    assert attempt.worker == registration.name
    assert (attempt.device, attempt.model, attempt.revision) == ("cuda:0", "odd", "1")
    assert attempt.started_at < attempt.ended_at
    assert {"queue", "fetch", "decode", "infer"} <= attempt.timings_ms.keys()


# Documents that could not be counted


class PdfStore(NullBlobs):
    """A PDF of four pages under every key."""

    image = encoded(noise(1), "PDF", noise(2), noise(3), noise(4))


def uncounted(database: Database, **options: Any) -> UUID:
    """A job of one document that could not be counted."""
    job_id = add_job(database, [NewItem(0, "in", "a.pdf", countable=True)], options=options)
    with database.transaction() as session:
        (item,) = counting.lease_items(session, 1, 0.0)
        expansion.counted(session, [CountedItem(item, error=EncryptedPdf())])
    return job_id


@pytest.mark.parametrize(
    ("wanted", "numbers"), [(None, [1, 2, 3, 4]), ("2,4-9", [2, 4]), ("4", [4])], ids=["all", "some", "one"]
)
def test_of_a_document_that_is_redriven_just_the_pages_that_are_wanted_are_read(
    database: Database, start_runner: Start, wanted: str | None, numbers: list[int]
) -> None:
    runner = start_runner(NullEngine(Settings()), store=PdfStore(0))
    job_id = uncounted(database, **({"pages": wanted} if wanted else {}))
    redrive(database, {})
    runner.run(send(database, job_id))
    if len(numbers) > 1:
        runner.run(send(database, job_id))
    lines = results(database, job_id)
    # Pages of one batch end in any order.
    assert sorted((line["page"], line["state"]) for line in lines) == [
        (number, "succeeded") for number in numbers
    ]
    assert len({line["text"] for line in lines}) == len(numbers)
    check_record(database, job_id)


@pytest.mark.parametrize("wanted", ["9", "1-2,9", "x"])
def test_a_range_of_pages_that_the_document_has_not_fails_as_counting_would_have(
    database: Database, start_runner: Start, wanted: str
) -> None:
    runner = start_runner(NullEngine(Settings()), store=PdfStore(0))
    job_id = uncounted(database)
    redrive(database, {"pages": wanted})
    runner.run(send(database, job_id))
    (line,) = results(database, job_id)
    assert line["error"]["code"] == "validation_failed"
    (item,) = sql(database, "SELECT page_count FROM items")
    assert item.page_count is None, "it may be redriven with another range"
    check_record(database, job_id)


def test_a_range_of_pages_of_an_image_fails_too(
    database: Database, start_runner: Start, store: KeepingStore
) -> None:
    runner = start_runner(NullEngine(Settings()), store=store)
    job_id = uncounted(database)
    redrive(database, {"pages": "2"})
    runner.run(send(database, job_id))
    assert [line["error"]["code"] for line in results(database, job_id)] == ["validation_failed"]


def test_the_parameters_of_the_last_attempt_are_those_of_the_redrive(
    database: Database, start_runner: Start
) -> None:
    engine = FaultyEngine()
    runner = start_runner(engine)
    job_id = add_job(database, items(FATAL), options={"parameters": {"temperature": 0.5}})
    runner.run(send(database, job_id))
    redrive(database, {"parameters": {"max_tokens": 99}})
    runner.run(send(database, job_id))
    before, after = (attempt.parameters for attempt in attempts(database, job_id))
    assert (before["max_tokens"], before["temperature"]) == (8192, 0.5)
    assert (after["max_tokens"], after["temperature"]) == (99, 0.5)
    assert orjson.dumps(engine.begun[-1].options["parameters"]) == b'{"temperature":0.5,"max_tokens":99}'
