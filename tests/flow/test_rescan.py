"""Rescans and the leader's step: what nobody told of is found, whatever the store does meanwhile."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from fleet_builders import check_record, sql, tenant_id
from sqlalchemy.orm import Session

from ocrfleet.blobs import NullBlobs
from ocrfleet.bucket_records import Told
from ocrfleet.db import Database
from ocrfleet.errors import FleetError, InputNotFound, StorageUnavailable
from ocrfleet.s3 import BlobInfo
from ocrfleet.settings import Settings
from ocrfleet.store import events, rules
from ocrfleet.store.rules import NewRule
from producer.events import EventApplier
from producer.rescan import Rescanner

JOB: dict[str, Any] = {"task": "text", "options": {}, "output": {"per_item": True, "prefix": "results/"}}


class ListedBlobs(NullBlobs):
    """A bucket of these keys; after so many of them the listing breaks, as often as there are errors."""

    def __init__(self, *keys: str) -> None:
        super().__init__(0)
        self.keys = sorted(keys)
        self.errors: list[FleetError | BaseException] = []
        self.after = 0
        self.seen: list[str] = []

    def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
        found = [key for key in self.keys if key.startswith(prefix) and key > start_after]
        for n, key in enumerate(found):
            if self.errors and n == self.after:
                raise self.errors.pop()
            self.seen.append(key)
            yield BlobInfo(bucket, key, f"etag-{key}", None, 5)
        if self.errors and len(found) <= self.after:
            raise self.errors.pop()


def add_rule(database: Database, name: str = "r", **members: Any) -> int:
    given = {
        "bucket": "scans",
        "prefix": "",
        "suffix": "",
        "job": JOB,
        "enabled": True,
        "rescan_seconds": 900,
    }
    with database.transaction() as session:
        return rules.create(session, NewRule(tenant_id(session), name, **given | members), actor="k")


def due(database: Database) -> None:
    sql(database, "UPDATE bucket_rules SET rescan_at = now(), leased_until = NULL")


def keys(database: Database) -> list[str]:
    return [row.key for row in sql(database, "SELECT key FROM items ORDER BY key")]


def numbered(count: int) -> list[str]:
    return [f"{n:05}.png" for n in range(count)]


def rescanner(database: Database, store: ListedBlobs) -> Rescanner:
    return Rescanner(Settings(), database, store)


def test_what_nobody_told_of_is_found_and_only_once(database: Database) -> None:
    add_rule(database)
    store = ListedBlobs("a.png", "b.txt", "results/a.png.json")
    one = rescanner(database, store)
    assert one.step()
    assert keys(database) == ["a.png", "b.txt"]
    assert not one.step(), "not before its time"
    store.keys.append("c.png")
    due(database)
    assert one.step()
    assert keys(database) == ["a.png", "b.txt", "c.png"]
    (job,) = sql(database, "SELECT * FROM jobs")
    check_record(database, job.id)


def test_a_listing_that_breaks_goes_on_where_it_was(database: Database) -> None:
    add_rule(database)
    store = ListedBlobs(*numbered(2500))
    store.errors, store.after = [StorageUnavailable("away")], 1500
    one = rescanner(database, store)
    assert one.step()
    assert len(keys(database)) == 1000
    assert not one.step(), "not at once"
    sql(database, "UPDATE bucket_rules SET leased_until = now()")
    store.seen.clear()
    assert one.step()
    assert store.seen[0] == "01000.png"
    assert keys(database) == numbered(2500)
    rows = sql(database, "SELECT items_total FROM jobs ORDER BY items_total")
    assert [row.items_total for row in rows] == [500, 1000, 1000]


def test_a_producer_that_died_is_followed_by_another_with_nothing_doubled(database: Database) -> None:
    class Killed(BaseException):
        """Passes everything, as a kill would."""

    add_rule(database)
    store = ListedBlobs(*numbered(2500))
    store.errors, store.after = [Killed()], 2200
    with pytest.raises(Killed):
        rescanner(database, store).step()
    other = rescanner(database, store)
    assert not other.step(), "its lease runs on"
    due(database)
    assert other.step()
    assert keys(database) == numbered(2500)


def test_a_bucket_that_is_not_there_is_said_and_tried_again_at_the_next_time(database: Database) -> None:
    rule_id = add_rule(database)
    store = ListedBlobs("a.png")
    store.errors = [InputNotFound("no bucket")]
    one = rescanner(database, store)
    assert one.step()
    assert said(database, rule_id) == "input_not_found: no bucket"
    assert not one.step()
    due(database)
    assert one.step()
    assert (said(database, rule_id), keys(database)) == (None, ["a.png"])


def said(database: Database, rule_id: int) -> str | None:
    with database.transaction() as session:
        row = rules.get(session, tenant_id(session), rule_id)
    assert row
    return row["rescan_fault"]


def test_a_rule_that_is_changed_meanwhile_takes_nothing_by_its_old_words(database: Database) -> None:
    rule_id = add_rule(database)

    class Meddling(ListedBlobs):
        def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
            if not self.seen:
                with database.transaction() as session:
                    rule = rules.lock(session, tenant_id(session), rule_id)
                    assert rule
                    rules.change(session, rule, {"suffix": ".pdf"}, actor="k")
            yield from super().scan(bucket, prefix, start_after=start_after)

    one = rescanner(database, Meddling("a.pdf", "a.png"))
    assert one.step()
    assert keys(database) == []
    assert one.step()
    assert keys(database) == ["a.pdf"]


def test_what_would_open_a_job_over_the_quota_is_found_again_when_there_is_room(database: Database) -> None:
    add_rule(database)
    sql(database, "UPDATE tenants SET jobs_open = 1")
    store = ListedBlobs(*numbered(2500))
    one = Rescanner(Settings(rule_job_items=1700), database, store)
    assert one.step()
    assert keys(database) == numbered(1700)
    assert not one.step(), "not at once"
    assert len(sql(database, "SELECT 1 FROM jobs")) == 1
    sql(database, "UPDATE tenants SET jobs_open = 2")
    sql(database, "UPDATE bucket_rules SET leased_until = now()")
    store.seen.clear()
    assert one.step()
    assert store.seen[0] == "01700.png"
    assert keys(database) == numbered(2500)


def test_a_listing_that_may_open_no_job_at_all_stands_where_it_was(database: Database) -> None:
    add_rule(database)
    sql(database, "UPDATE tenants SET jobs_open = 0")
    store = ListedBlobs(*numbered(3))
    one = rescanner(database, store)
    assert one.step()
    (rule,) = sql(
        database, "SELECT cursor, leased_until > now() AS waits, rescan_at <= now() AS due FROM bucket_rules"
    )
    assert tuple(rule) == ({}, True, True)
    sql(database, "UPDATE tenants SET jobs_open = NULL")
    sql(database, "UPDATE bucket_rules SET leased_until = now()")
    assert one.step()
    assert keys(database) == numbered(3)


def test_a_whole_listing_forgets_what_is_gone(database: Database) -> None:
    add_rule(database)
    store = ListedBlobs(*numbered(2500))
    one = rescanner(database, store)
    assert one.step()
    store.keys = store.keys[2200:]
    sql(database, "UPDATE rule_objects SET seen_at = now() - interval '8 days'")
    due(database)
    store.errors, store.after = [StorageUnavailable("away")], 100
    assert one.step()
    known = "SELECT key FROM rule_objects ORDER BY key"
    assert len(sql(database, known)) == 2500, "it has not seen the whole"
    due(database)
    assert one.step()
    assert [row.key for row in sql(database, known)] == store.keys
    assert not one.step(), "the listing is over"
    assert len(keys(database)) == 2500


def test_the_leader_applies_closes_and_forgets(database: Database) -> None:
    def transaction() -> AbstractContextManager[Session]:
        return database.transaction()

    add_rule(database)
    leader = EventApplier(Settings(rule_job_items=2), transaction)
    with database.transaction() as session:
        made = events.create_source(session, tenant_id(session), "minio", actor="k")
        assert made
        source = events.authenticate(session, "minio", made[1])
        assert source
        told = [Told("scans", f"{n}.png", "e", None, 5, "1", b"{}") for n in range(3)]
        assert events.keep(session, source, told) == 3
    leader.tick()
    assert keys(database) == ["0.png", "1.png", "2.png"]
    query = "SELECT items_total, listed_at IS NOT NULL AS closed FROM jobs ORDER BY items_total"
    assert [tuple(row) for row in sql(database, query)] == [(1, False), (2, True)]
    sql(database, "UPDATE jobs SET open_until = now()")
    sql(database, "UPDATE bucket_events SET received_at = now() - interval '30 days'")
    later = EventApplier(Settings(), transaction)
    assert later.step() == 0
    assert [row.closed for row in sql(database, query)] == [True, True]
    assert sql(database, "SELECT * FROM bucket_events") == []
