"""What our own bucket keeps for the fleet and for other tenants is no input, however it is asked for."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from fleet_builders import pages, results, tenant_id

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.rights import OUR_PREFIXES
from ocrfleet.settings import Settings
from ocrfleet.store import jobs
from ocrfleet.store.jobs import NewJob
from producer.expand import Expander


@pytest.fixture
def expander(database: Database, store: Blobs) -> Iterator[Expander]:
    one = Expander(Settings(), database, store)
    yield one
    one.close()


def submit(database: Database, given: dict[str, Any]) -> UUID:
    job_id = uuid4()
    with database.transaction() as session:
        jobs.create(session, NewJob(job_id, tenant_id(session), "text", given))
    return job_id


def test_a_prefix_passes_over_it_and_whoever_names_it_meets_an_error(
    database: Database, expander: Expander, store: Blobs
) -> None:
    with database.transaction() as session:
        mine = f"uploads/{tenant_id(session)}/{uuid4()}/a.png"
    theirs = [f"{prefix}{uuid4()}/a.png" for prefix in OUR_PREFIXES]
    for key in (mine, *theirs):
        store.put("ocr", key, b"x", "image/png")
    given = {"type": "prefix", "bucket": "ocr", "prefix": ""}
    listed = submit(database, given)
    expander.step()
    found = {page.key for page in pages(database, listed)}
    assert mine in found
    assert found.isdisjoint(theirs)
    objects = [{"bucket": "ocr", "key": key} for key in (mine, *theirs)]
    named = submit(database, {"type": "objects", "objects": objects})
    expander.step()
    refused = {line["key"]: line["error"]["code"] for line in results(database, named)}
    assert refused == dict.fromkeys(theirs, "input_access_denied")
    assert [page.key for page in pages(database, named) if page.state == "ready"] == [mine]


def test_another_bucket_may_have_such_names(database: Database, expander: Expander) -> None:
    objects = [{"bucket": "scans", "key": "uploads/somebody/a.png"}]
    job_id = submit(database, {"type": "objects", "objects": objects})
    expander.step()
    assert results(database, job_id) == []
