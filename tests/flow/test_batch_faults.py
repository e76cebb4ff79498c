"""Batches that cannot be read or written down: tried again soon, without doing all of it again, and not for ever."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from batch_rig import SETTINGS, line, submit
from fleet_builders import add_worker, sql

from ocrfleet.blobs import BlobInfo, Blobs, Stream
from ocrfleet.db import Database
from ocrfleet.errors import StorageUnavailable
from ocrfleet.s3 import S3Blobs
from ocrfleet.settings import Settings
from producer.batches import Batcher

LINES = line("a") + line("b") + line("c")
END_JOBS = """
    UPDATE jobs SET state = 'completed', outcome = 'succeeded', finished_at = now(), listed_at = now(),
        expanded_at = now()"""
DUE = "UPDATE batches SET leased_until = NULL WHERE ended_at IS NULL"


class Faulty(S3Blobs):
    """Puts all but the objects whose keys end so: there it raises."""

    def __init__(self, settings: Settings, suffix: str, fault: Exception) -> None:
        super().__init__(settings)
        self.suffix = suffix
        self.put_keys = list[str]()
        self._fault = fault

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> BlobInfo:
        if self.suffix and key.endswith(self.suffix):
            raise self._fault
        self.put_keys.append(key.rpartition("/")[2])
        return super().put(bucket, key, data, content_type)

    @contextmanager
    def stream(self, bucket: str, key: str, *, offset: int = 0, etag: str | None = None) -> Generator[Stream]:
        if self.suffix and key.endswith(self.suffix):
            raise self._fault
        with super().stream(bucket, key, offset=offset, etag=etag) as found:
            yield found


@pytest.fixture(autouse=True)
def _worker(database: Database) -> None:
    add_worker(database)
    sql(database, "UPDATE workers SET tasks = ARRAY['text', 'parse', 'prompt']")


def batch(database: Database) -> Any:  # noqa: ANN401 (a row)
    query = "SELECT *, extract(epoch FROM leased_until - now()) AS seconds FROM batches"
    return sql(database, query)[0]


def test_a_turn_whose_lease_was_renewed_is_given_back_at_once(
    database: Database, s3: Settings, store: Blobs
) -> None:
    submit(database, store, LINES)
    away = Faulty(s3, "/3.png", StorageUnavailable("away"))
    assert Batcher(SETTINGS, database, away, renew_every=0.0).step()
    assert batch(database).seconds < 10, "not the whole lease"


def test_images_that_are_there_are_not_put_again(database: Database, s3: Settings, store: Blobs) -> None:
    submit(database, store, LINES)
    blobs = Faulty(s3, "/3.png", StorageUnavailable("away"))
    batcher = Batcher(SETTINGS, database, blobs)
    assert batcher.step()
    blobs.suffix = ""
    sql(database, DUE)
    assert batcher.step()
    assert blobs.put_keys == ["1.png", "2.png", "3.png", "0.jsonl"]
    assert batch(database).status == "in_progress"


@pytest.mark.parametrize("suffix", ["/2.png", "error.jsonl"])
def test_a_fault_of_ours_fails_the_batch_after_some_tries(
    database: Database, s3: Settings, store: Blobs, suffix: str
) -> None:
    submit(database, store, LINES)
    batcher = Batcher(SETTINGS, database, Faulty(s3, suffix, OSError("no space left on device")))
    if suffix == "error.jsonl":
        assert batcher.step()
        sql(database, END_JOBS)
    for _ in range(4):
        assert batcher.step()
        assert batch(database).ended_at is None
        assert 0 < batch(database).seconds < 10, "it waits a little"
        sql(database, DUE)
    assert batcher.step()
    row = batch(database)
    assert (row.status, row.errors[0]["code"]) == ("failed", "internal")
    assert "no space left" in row.errors[0]["message"]
    assert not batcher.step()


def test_tries_that_ended_well_are_not_counted(database: Database, s3: Settings, store: Blobs) -> None:
    submit(database, store, LINES)
    blobs = Faulty(s3, "0.jsonl", KeyError("x"))
    batcher = Batcher(SETTINGS, database, blobs)
    for suffix in ("0.jsonl",) * 4 + ("",) + ("error.jsonl",) * 4:
        blobs.suffix = suffix
        assert batcher.step()
        sql(database, DUE)
        sql(database, END_JOBS)
    assert batch(database).status == "finalizing"


def test_what_cannot_be_written_down_for_good_fails_the_batch(database: Database, store: Blobs) -> None:
    batch_id = submit(database, store, LINES)
    batcher = Batcher(SETTINGS, database, store)
    assert batcher.step()
    sql(database, END_JOBS)
    store.remove("ocr", f"batches/{batch_id}/0.jsonl")
    assert batcher.step()
    row = batch(database)
    assert (row.status, row.errors[0]["code"]) == ("failed", "input_not_found")
