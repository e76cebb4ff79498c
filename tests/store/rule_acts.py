"""What the tests of bucket rules do: rules, events of one source, and the leader's steps."""

from typing import Any
from uuid import UUID

from builders import Record, settlement

from ocrfleet.bucket_records import Malformed, Told
from ocrfleet.store import events, rolling, rules
from ocrfleet.store.events import Source
from ocrfleet.store.rolling import Limits
from ocrfleet.store.rules import NewRule

LIMITS = Limits(60.0, 1000, "ocr")
PER_ITEM = {"per_item": True, "prefix": "results/"}


def new_source(record: Record) -> Source:
    """A store that may tell of its buckets."""
    with record.database.transaction() as session:
        made = events.create_source(session, record.tenant, "minio", actor="k")
        assert made
        found = events.authenticate(session, "minio", made[1])
        assert found
        return found


def add_rule(record: Record, name: str = "r", *, tenant: UUID | None = None, **members: Any) -> int:
    job = {"task": "text", "options": {}, "output": PER_ITEM} | members.pop("job", {})
    given = {"bucket": "scans", "prefix": "", "suffix": "", "enabled": True, "rescan_seconds": 900} | members
    with record.database.transaction() as session:
        return rules.create(session, NewRule(tenant or record.tenant, name, job=job, **given), actor="k")


def told(key: str, etag: str = "e1", sequencer: str = "1", bucket: str = "scans") -> Told:
    return Told(bucket, key, etag, None, 5, sequencer, b"{}", sequencer)


def tell(record: Record, source: Source, *found: Told | Malformed) -> int:
    with record.database.transaction() as session:
        return events.keep(session, source, found)


def apply(record: Record, limits: Limits = LIMITS, **more: int) -> int:
    with record.database.transaction() as session:
        return rolling.apply(session, limits, **more)


def keys(record: Record) -> list[str]:
    return [row.key for row in record.run("SELECT key FROM items ORDER BY job_id, ordinal")]


def jobs_of(record: Record) -> list[Any]:
    return record.run("SELECT * FROM jobs ORDER BY created_at, id")


def waiting(record: Record) -> int:
    return record.scalar("SELECT count(*) FROM bucket_events WHERE handled_at IS NULL AND fault IS NULL")


def finish(record: Record, job_id: UUID) -> None:
    worker = record.worker()
    claimed = record.claim(worker, record.dispatch(job_id))
    record.settle(*(settlement(record.page(page.id)) for page in claimed))


def close_due(record: Record) -> int:
    with record.database.transaction() as session:
        return rolling.close_due(session)
