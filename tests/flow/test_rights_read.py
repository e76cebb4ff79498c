"""What tenants may read, asked by the producers again: of inputs, of results that may be there, and of rules."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from fleet_builders import add_job, job, results, send, sql, tenant_id

from ocrfleet.blobs import NullBlobs
from ocrfleet.bucket_records import Told
from ocrfleet.db import Database
from ocrfleet.errors import InputAccessDenied
from ocrfleet.rights import OUR_PREFIXES
from ocrfleet.s3 import BlobInfo
from ocrfleet.settings import Settings
from ocrfleet.store import events, jobs, redrives, rules
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.jobs import NewJob
from ocrfleet.store.letters import LetterFilter
from ocrfleet.store.redrives import NewRedrive
from ocrfleet.store.rules import NewRule
from producer.events import EventApplier
from producer.expand import Expander
from producer.rescan import Rescanner
from worker.engines.null import NullEngine
from worker.runner import Runner

DENIED = "input_access_denied"


def allow(database: Database, *buckets: str) -> None:
    sql(database, "UPDATE tenants SET buckets = :buckets", buckets=list(buckets))


def expand(database: Database, given: dict[str, Any], store: NullBlobs | None = None, **output: Any) -> UUID:
    job_id = uuid4()
    with database.transaction() as session:
        jobs.create(session, NewJob(job_id, tenant_id(session), "text", given, output=output))
    expander = Expander(Settings(bucket="ocr"), database, store or NullBlobs(3))
    assert expander.step()
    expander.close()
    return job_id


def of(*places: tuple[str, str]) -> dict[str, Any]:
    return {"type": "objects", "objects": [{"bucket": bucket, "key": key} for bucket, key in places]}


def codes(database: Database, job_id: UUID) -> dict[str, str]:
    return {line["key"]: line["error"]["code"] for line in results(database, job_id)}


# Reading


def test_each_line_outside_the_tenants_buckets_is_that_lines_error(database: Database) -> None:
    allow(database, "scans", "archive/2026/")
    places = [("scans", "a.png"), ("archive", "2026/b.png"), ("archive", "2025/c.png"), ("other", "d.png")]
    job_id = expand(database, of(*places))
    assert codes(database, job_id) == {"2025/c.png": DENIED, "d.png": DENIED}
    assert job(database, job_id).items_total == 4


def test_what_is_anothers_in_our_bucket_is_refused_in_any_spelling(database: Database) -> None:
    keys = [
        f"{start}{prefix}{uuid4()}/a.png" for prefix in OUR_PREFIXES for start in ("", "/", "//", "x/../")
    ]
    keys += [f"{prefix[:-1]}\\{uuid4()}\\a.png" for prefix in OUR_PREFIXES]
    job_id = expand(database, of(*(("ocr", key) for key in keys)))
    assert codes(database, job_id) == dict.fromkeys(keys, DENIED)


@pytest.mark.parametrize(
    "given",
    [
        {"type": "manifest", "bucket": "other", "key": "m.jsonl"},
        {"type": "prefix", "bucket": "other", "prefix": ""},
    ],
)
def test_a_right_that_was_taken_back_ends_the_job(database: Database, given: dict[str, Any]) -> None:
    allow(database, "scans")
    job_id = expand(database, given)
    assert job(database, job_id).state == "failed"
    assert job(database, job_id).error["code"] == DENIED


def test_the_manifests_of_batches_are_read_for_every_tenant(database: Database) -> None:
    allow(database, "ocr/00")
    job_id = expand(database, {"type": "manifest", "bucket": "ocr", "key": "batches/1/0-3.jsonl"})
    assert (job(database, job_id).error, job(database, job_id).items_total) == (None, 3)
    assert len(codes(database, job_id)) == 0


def test_a_prefix_passes_over_what_is_not_covered(database: Database) -> None:
    allow(database, "scans/000000000001")
    job_id = expand(database, {"type": "prefix", "bucket": "scans", "prefix": ""})
    assert [row.key for row in sql(database, "SELECT key FROM items WHERE job_id = :job", job=job_id)] == [
        "000000000001.png"
    ]


def test_a_redrive_reads_nothing_that_the_tenant_may_not(
    database: Database, start_runner: Callable[..., Runner]
) -> None:
    runner = start_runner(NullEngine(Settings()), store=NullBlobs(0))
    job_id = add_job(database, [NewItem(0, "scans", "a.png", error=InputAccessDenied("not yours"))])

    def redriven() -> list[str]:
        with database.transaction() as session:
            asked = NewRedrive(tenant_id(session), LetterFilter(job_id=job_id), {}, None, None)
            redrives.create(session, asked, "k")
        runner.run(send(database, job_id))
        return [line["state"] for line in results(database, job_id)]

    allow(database, "other")
    assert redriven()[-1] == "dead"
    allow(database, "scans")
    assert redriven()[-1] == "succeeded"


def test_a_redrive_reads_the_image_that_came_with_the_request(
    database: Database, start_runner: Callable[..., Runner]
) -> None:
    runner = start_runner(NullEngine(Settings()), store=NullBlobs(0))
    allow(database)
    states: list[str] = []
    for whose in (uuid4(), None):
        job_id = add_job(database, [NewItem(0, "ocr", "x", error=InputAccessDenied("not yours"))])
        key = f"interactive/2026112010/{whose or job_id}"
        sql(database, "UPDATE items SET key = :key WHERE job_id = :job", key=key, job=job_id)
        with database.transaction() as session:
            asked = NewRedrive(tenant_id(session), LetterFilter(job_id=job_id), {}, None, None)
            redrives.create(session, asked, "k")
        runner.run(send(database, job_id))
        states.append(results(database, job_id)[-1]["state"])
    assert states == ["dead", "succeeded"]


# Whether results are there


class Watched(NullBlobs):
    """Knows what it was asked for; `closed` may not be looked into."""

    def __init__(self) -> None:
        super().__init__(0)
        self.asked: list[str] = []

    def stat(self, bucket: str, key: str) -> BlobInfo:
        self.asked.append(f"{bucket}/{key}")
        if bucket == "closed":
            raise InputAccessDenied("no")
        return BlobInfo(bucket, key, "e", None, 1)


def test_nobody_learns_what_lies_where_he_may_not_write(database: Database) -> None:
    allow(database, "scans")
    store = Watched()
    expand(
        database,
        of(("scans", "a.png")),
        store,
        per_item=True,
        bucket="other",
        prefix="r/",
        on_existing="fail",
    )
    assert store.asked == []
    expand(database, of(("scans", "a.png")), store, per_item=True, prefix="r/", on_existing="fail")
    assert store.asked == ["scans/r/a.png.json"]


def test_a_lines_bucket_that_is_closed_does_not_end_the_job(database: Database) -> None:
    places = of(("closed", "a.png"), ("scans", "b.png"))
    job_id = expand(database, places, Watched(), per_item=True, prefix="r/", on_existing="skip")
    assert (job(database, job_id).state, job(database, job_id).items_total) == ("queued", 1)
    job_id = expand(
        database, places, Watched(), per_item=True, bucket="closed", prefix="r/", on_existing="skip"
    )
    assert job(database, job_id).error["code"] == DENIED, "of the bucket that the job names it is"


# Rules


class Listed(NullBlobs):
    """A bucket of these keys."""

    def __init__(self, *keys: str) -> None:
        super().__init__(0)
        self.keys = keys

    def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
        for key in self.keys:
            if key.startswith(prefix) and key > start_after:
                yield BlobInfo(bucket, key, "e", None, 1)


def add_rule(database: Database, bucket: str, **output: Any) -> None:
    made: dict[str, Any] = {"task": "text", "options": {}, "output": output}
    with database.transaction() as session:
        rules.create(session, NewRule(tenant_id(session), "r", bucket, "", "", made, True, 900), actor="k")  # noqa: FBT003


def taken(database: Database) -> list[str]:
    return [row.key for row in sql(database, "SELECT key FROM items ORDER BY key")]


def rescan(database: Database, *keys: str) -> str | None:
    sql(database, "UPDATE bucket_rules SET rescan_at = now(), leased_until = NULL")
    assert Rescanner(Settings(bucket="ocr"), database, Listed(*keys)).step()
    return sql(database, "SELECT cursor ->> 'fault' AS fault FROM bucket_rules")[0].fault


def test_a_rescan_takes_what_is_covered_and_the_rest_once_it_is(database: Database) -> None:
    allow(database, "scans/in/")
    add_rule(database, "scans")
    assert rescan(database, "in/a.png", "out/b.png") is None
    assert taken(database) == ["in/a.png"]
    allow(database, "scans")
    rescan(database, "in/a.png", "out/b.png")
    assert taken(database) == ["in/a.png", "out/b.png"]


def test_a_rule_without_a_right_says_so(database: Database) -> None:
    add_rule(database, "scans")
    allow(database, "other")
    fault = rescan(database, "a.png")
    assert fault
    assert fault.startswith(DENIED)
    assert taken(database) == []


def test_events_bring_nothing_that_the_tenant_may_not_read(database: Database) -> None:
    add_rule(database, "ocr", per_item=True, prefix="/results//")
    allow(database, "ocr/in/", "ocr/results/")
    keys = [
        "in/a.png",
        "out/b.png",
        "/uploads/x/c.png",
        "in/../uploads/x/d.png",
        "results/in/a.png",
        "in//e.png",
    ]
    with database.transaction() as session:
        made = events.create_source(session, tenant_id(session), "s", actor="k")
        assert made
        source = events.authenticate(session, "s", made[1])
        assert source
        events.keep(
            session, source, [Told("ocr", key, "e", None, 1, str(n), b"{}") for n, key in enumerate(keys)]
        )
    EventApplier(Settings(bucket="ocr"), database.transaction).step()
    assert taken(database) == ["in//e.png", "in/a.png"], (
        "nor what the rule itself writes, as the store calls it"
    )
