"""Images that the lines of a batch hold themselves: kept in our bucket for redrives, and removed in the end."""

from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from batch_rig import SETTINGS, line, submit
from fleet_builders import add_worker, sql, tenant_id

from ocrfleet.blobs import BlobInfo, Blobs
from ocrfleet.db import Database
from ocrfleet.errors import InputNotFound, StorageUnavailable
from ocrfleet.s3 import S3Blobs
from ocrfleet.settings import Settings
from ocrfleet.store import control
from producer import batches as producer
from producer.batches import Batcher


@pytest.fixture
def begin(database: Database, store: Blobs) -> Callable[..., str]:
    """A batch whose file has been read: one job, of which each image is in the bucket."""

    def begin(content: bytes = line("a") + line("b") + line("c")) -> str:
        batch_id = submit(database, store, content)
        assert Batcher(SETTINGS, database, store).step()
        return batch_id

    return begin


def images(database: Database, store: Blobs, batch_id: str) -> int:
    with database.transaction() as session:
        prefix = f"uploads/{tenant_id(session)}/{batch_id}/"
    return len(list(store.scan("ocr", prefix)))


def clear(database: Database, store: Blobs, most: int = 10_000) -> int:
    return producer.remove_images(SETTINGS, database, store, most)


def end(database: Database, store: Blobs, batch_id: str) -> UUID:
    """End the batch, as if its job had read everything; returns the job's id."""
    query = """
        UPDATE jobs SET state = 'completed', outcome = 'succeeded', finished_at = now(), listed_at = now(),
            expanded_at = now() WHERE id = ANY(SELECT unnest(job_ids) FROM batches WHERE id = :id) RETURNING id"""
    (row,) = sql(database, query, id=batch_id)
    assert Batcher(SETTINGS, database, store).step()
    return row.id


@pytest.fixture(autouse=True)
def _worker(database: Database) -> None:
    add_worker(database)
    sql(database, "UPDATE workers SET tasks = ARRAY['text', 'parse', 'prompt']")


def test_they_are_kept_until_so_long_after_the_end(
    database: Database, store: Blobs, begin: Callable[..., str]
) -> None:
    batch_id, other = begin(), begin()
    sql(database, "UPDATE batches SET created_at = now() - interval '99 days'")
    assert clear(database, store) == 0, "it goes on"
    end(database, store, batch_id)
    assert clear(database, store) == 0, "what died may be redriven"
    sql(
        database,
        "UPDATE batches SET ended_at = now() - interval '30 days 1 hour' WHERE id = :id",
        id=batch_id,
    )
    assert (images(database, store, batch_id), clear(database, store)) == (3, 1)
    assert (images(database, store, batch_id), images(database, store, other)) == (0, 3)
    assert clear(database, store) == 0, "once"


def test_they_go_when_the_batchs_jobs_are_deleted(
    database: Database, store: Blobs, begin: Callable[..., str]
) -> None:
    batch_id = begin()
    job_id = end(database, store, batch_id)
    with database.transaction() as session:
        control.delete(session, tenant_id(session), job_id, actor="a-key")
    assert clear(database, store) == 1
    assert images(database, store, batch_id) == 0


def test_they_go_with_a_batch_that_failed(
    database: Database, store: Blobs, begin: Callable[..., str]
) -> None:
    batch_id = begin(line("a") + line("a"))
    assert [row.status for row in sql(database, "SELECT status FROM batches")] == ["failed"]
    assert (images(database, store, batch_id), clear(database, store)) == (1, 1)
    assert images(database, store, batch_id) == 0


def test_a_job_that_is_redriven_keeps_them(
    database: Database, store: Blobs, begin: Callable[..., str]
) -> None:
    batch_id = begin()
    job_id = end(database, store, batch_id)
    sql(database, "UPDATE batches SET ended_at = now() - interval '99 days'")
    sql(
        database,
        "UPDATE jobs SET state = 'running', outcome = NULL, finished_at = NULL WHERE id = :id",
        id=job_id,
    )
    assert clear(database, store) == 0
    assert images(database, store, batch_id) == 3


def test_of_many_some_go_each_time(database: Database, store: Blobs, begin: Callable[..., str]) -> None:
    batch_id = begin()
    end(database, store, batch_id)
    sql(database, "UPDATE batches SET ended_at = now() - interval '99 days'")
    assert (clear(database, store, 2), images(database, store, batch_id)) == (1, 1)
    assert (clear(database, store, 2), images(database, store, batch_id)) == (1, 0)
    assert (clear(database, store, 2), clear(database, store, 2)) == (1, 0), "the last took a manifest too"


def own(store: Blobs, batch_id: str) -> list[str]:
    return [info.key.rpartition("/")[2] for info in store.scan("ocr", f"batches/{batch_id}/")]


def test_manifests_go_with_them_and_what_callers_read_stays(
    database: Database, store: Blobs, begin: Callable[..., str]
) -> None:
    batch_id = begin(line("a") + line("b").replace(b'"model"', b'"n": 2, "model"'))
    assert own(store, batch_id) == ["0.jsonl", "refused.jsonl"]
    end(database, store, batch_id)
    sql(database, "UPDATE batches SET ended_at = now() - interval '99 days'")
    assert clear(database, store) == 1
    assert own(store, batch_id) == ["error.jsonl"]


class Gone(S3Blobs):
    """Its bucket was deleted."""

    def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
        raise InputNotFound(f"{bucket}/{prefix}{start_after}")


def test_what_is_gone_with_its_bucket_is_asked_for_once(
    database: Database, s3: Settings, store: Blobs, begin: Callable[..., str]
) -> None:
    for batch_id in (begin(), begin()):
        end(database, store, batch_id)
    sql(database, "UPDATE batches SET ended_at = now() - interval '99 days'")
    assert (clear(database, Gone(s3)), clear(database, Gone(s3))) == (2, 0)


class Away(S3Blobs):
    """Lists, and removes nothing."""

    def remove(self, bucket: str, key: str) -> None:
        raise StorageUnavailable(f"{bucket}/{key}")


def test_a_store_that_is_away_is_asked_again(
    database: Database, store: Blobs, s3: Settings, begin: Callable[..., str]
) -> None:
    batch_id = begin()
    end(database, store, batch_id)
    sql(database, "UPDATE batches SET ended_at = now() - interval '99 days'")
    producer.clean(SETTINGS, database, Away(s3))
    producer.clean(SETTINGS, database, store)
    assert images(database, store, batch_id) == 0
