"""`output.on_existing`: what has a result in the output bucket already is left out, refused, or read again."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from fleet_builders import check_record, job, pages, results, sql, tenant_id

from ocrfleet.blobs import Blobs, NullBlobs
from ocrfleet.db import Database
from ocrfleet.errors import StorageUnavailable
from ocrfleet.s3 import BlobInfo
from ocrfleet.settings import Settings
from ocrfleet.store import jobs
from ocrfleet.store.jobs import NewJob
from producer.existing import Existing
from producer.expand import Expander

KEYS = [f"{n}.png" for n in range(6)]


@pytest.fixture
def place(store: Blobs) -> str:
    """A prefix of the bucket, with a result for every other key."""
    place = f"existing-{uuid4().hex}/"
    for key in KEYS[::2]:
        store.put("ocr", f"{place}results/{place}{key}.json", b"{}", "application/json")
    for key in KEYS:
        store.put("ocr", f"{place}{key}", b"x", "image/png")
    return place


@pytest.fixture
def expander(database: Database, store: Blobs) -> Iterator[Expander]:
    one = Expander(Settings(expand_chunk=4), database, store)
    yield one
    one.close()


@pytest.fixture(params=["prefix", "objects"])
def submit(request: pytest.FixtureRequest, database: Database, place: str) -> Callable[..., Any]:
    def submit(**output: Any) -> Any:  # noqa: ANN401
        given: dict[str, Any] = {
            "type": "prefix",
            "bucket": "ocr",
            "prefix": place,
            "exclude": ["*/results/*"],
        }
        if request.param == "objects":
            objects = [{"bucket": "ocr", "key": f"{place}{key}"} for key in KEYS]
            given = {"type": "objects", "objects": objects}
        job_id = uuid4()
        with database.transaction() as session:
            new = NewJob(
                job_id, tenant_id(session), "text", given, output={"prefix": f"{place}results/"} | output
            )
            jobs.create(session, new)
        return job_id

    return submit


def left(database: Database, job_id: Any, place: str) -> list[str]:  # noqa: ANN401
    return [page.key.removeprefix(place) for page in pages(database, job_id) if page.state == "ready"]


def test_skip_leaves_out_what_has_a_result(
    database: Database, expander: Expander, place: str, submit: Callable[..., Any]
) -> None:
    job_id = submit(per_item=True, on_existing="skip")
    expander.step()
    assert left(database, job_id, place) == KEYS[1::2]
    assert job(database, job_id).items_total == 3
    check_record(database, job_id)


def test_fail_makes_dead_letters_of_them(
    database: Database, expander: Expander, place: str, submit: Callable[..., Any]
) -> None:
    job_id = submit(per_item=True, on_existing="fail")
    expander.step()
    assert left(database, job_id, place) == KEYS[1::2]
    found = results(database, job_id)
    assert {line["key"] for line in found} == {f"{place}{key}" for key in KEYS[::2]}
    assert {line["error"]["code"] for line in found} == {"output_exists"}
    assert found[0]["error"]["key"].endswith(".png.json")
    check_record(database, job_id)


@pytest.mark.parametrize(
    "output", [{"per_item": True, "on_existing": "overwrite"}, {"per_item": False, "on_existing": "skip"}]
)
def test_all_is_read_otherwise(
    database: Database, expander: Expander, place: str, submit: Callable[..., Any], output: dict[str, Any]
) -> None:
    job_id = submit(**output)
    expander.step()
    assert left(database, job_id, place) == KEYS


class Silent(NullBlobs):
    """Lists and streams, and tells of no object."""

    def stat(self, bucket: str, key: str) -> BlobInfo:
        if key.endswith(".json"):
            raise StorageUnavailable("the store is away")
        return super().stat(bucket, key)


def test_a_store_that_does_not_say_postpones_the_expansion(database: Database) -> None:
    job_id = uuid4()
    output = {"per_item": True, "on_existing": "skip"}
    with database.transaction() as session:
        given = {"type": "objects", "objects": [{"bucket": "ocr", "key": "a.png"}]}
        jobs.create(session, NewJob(job_id, tenant_id(session), "text", given, output=output))
    expander = Expander(Settings(), database, Silent(1))
    assert expander.step()
    expander.close()
    assert (job(database, job_id).items_total, job(database, job_id).state) == (0, "queued")
    assert sql(database, "SELECT 1 FROM items") == []


def test_what_cannot_be_read_anyway_is_not_asked_for() -> None:
    existing = Existing(Silent(1))
    assert existing.sift({"per_item": True, "on_existing": "skip"}, []) == []
    existing.close()
