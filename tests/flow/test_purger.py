"""What callers have deleted is taken out of the bucket, then out of the record."""

from dataclasses import replace
from uuid import UUID

import pytest
from fleet_builders import add_job, add_worker, send, sql, tenant_id

from ocrfleet.blobs import NullBlobs
from ocrfleet.db import Database
from ocrfleet.errors import StorageUnavailable
from ocrfleet.settings import Settings
from ocrfleet.states import PageState
from ocrfleet.store import control, pages
from ocrfleet.store.settle import settle
from producer.purge import Purger
from worker import settlements


class Bucket(NullBlobs):
    """Knows what was removed; away while it is told to be."""

    def __init__(self) -> None:
        super().__init__(0)
        self.removed: list[tuple[str, str]] = []
        self.is_away = False

    def remove(self, bucket: str, key: str) -> None:
        if self.is_away:
            raise StorageUnavailable("it does not answer")
        self.removed.append((bucket, key))


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def purger(database: Database, bucket: Bucket) -> Purger:
    return Purger(Settings(bucket="ours"), database, bucket)


def deleted(database: Database) -> UUID:
    """A job with two dead pages, of which there are images."""
    job_id, worker = add_job(database, 2), add_worker(database)
    with database.transaction() as session:
        claimed = pages.claim(session, worker, send(database, job_id).pages)
    dead = [
        replace(
            settlements.of(page, worker, PageState.DEAD, '{"error":{}}'),
            code="corrupt_file",
            thumbnail=f"thumbnails/{page.number}-{page.key}",
        )
        for page in claimed
    ]
    with database.transaction() as session:
        assert len(settle(session, dead)) == 2
        control.delete(session, tenant_id(session), job_id, actor="a-key")
    return job_id


def test_images_of_pages_go_with_their_rows(database: Database, purger: Purger, bucket: Bucket) -> None:
    assert purger.step() is False
    deleted(database)
    while purger.step():
        pass
    assert sorted(bucket.removed) == [("ours", "thumbnails/1-0.png"), ("ours", "thumbnails/1-1.png")]
    for table in ("jobs", "items", "pages", "attempts", "outcomes"):
        assert sql(database, f"SELECT 1 FROM {table}") == []  # noqa: S608


def test_while_the_store_is_away_the_rows_that_name_its_objects_stay(
    database: Database, purger: Purger, bucket: Bucket
) -> None:
    job_id = deleted(database)
    bucket.is_away = True
    assert purger.step() is True
    assert purger.step() is False, "not again before the lease has run out"
    assert len(sql(database, "SELECT 1 FROM attempts WHERE thumbnail IS NOT NULL")) == 2
    bucket.is_away = False
    sql(database, "UPDATE jobs SET expansion_leased_until = now() WHERE id = :job", job=job_id)
    while purger.step():
        pass
    assert (len(bucket.removed), sql(database, "SELECT 1 FROM jobs")) == (2, [])
