"""What the tests of outputs per item share: a bucket in memory, and a writer that has nothing to wait for."""

from typing import Any
from uuid import UUID

import orjson
from fleet_builders import sql, tenant_id

from ocrfleet.blobs import NullBlobs
from ocrfleet.db import Database
from ocrfleet.s3 import BlobInfo
from ocrfleet.store import jobs
from ocrfleet.store.expansion import NewItem
from producer.item_outputs import ItemWriter

OUTPUT = {"per_item": True, "prefix": "results/"}


class MemoryBlobs(NullBlobs):
    """Keeps what is put; buckets in `moods` answer with an error."""

    def __init__(self) -> None:
        super().__init__(0)
        self.kept: dict[tuple[str, str], bytes] = {}
        self.puts: list[str] = []
        self.moods: dict[str, Exception] = {}

    def put(self, bucket: str, key: str, data: Any, content_type: str) -> BlobInfo:  # noqa: ANN401
        assert content_type == "application/json"
        if bucket in self.moods:
            raise self.moods[bucket]
        self.kept[bucket, key] = data.read_bytes()
        self.puts.append(key)
        return BlobInfo(bucket, key, "e", None, len(self.kept[bucket, key]))

    def json(self, key: str, bucket: str = "ocr") -> dict[str, Any]:
        return orjson.loads(self.kept[bucket, key])


def work(writer: ItemWriter, database: Database) -> None:
    """Until there is nothing to write, whatever was to be waited for."""
    sql(database, "UPDATE jobs SET output_leased_until = now() WHERE output_leased_until IS NOT NULL")
    while writer.step():
        pass


def items(*keys: str, **members: Any) -> list[NewItem]:
    return [NewItem(n, "ocr", key, "e1", custom_id=f"c{n}", **members) for n, key in enumerate(keys)]


def said(database: Database, job_id: UUID) -> dict[str, Any]:
    with database.transaction() as session:
        row = jobs.get(session, tenant_id(session), job_id)
    assert row
    return row["output"]
