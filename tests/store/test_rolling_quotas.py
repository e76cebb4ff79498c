"""Rolling jobs and the quota of open jobs: what would open one too many waits, and nobody else does."""

from uuid import UUID

import pytest
from builders import Record
from rule_acts import (
    add_rule,
    apply,
    finish,
    jobs_of,
    keys,
    new_source,
    tell,
    told,
    waiting,
)

from ocrfleet.store import events, rolling, rules, tenants
from ocrfleet.store.events import Source
from ocrfleet.store.rolling import Limits, Taken
from ocrfleet.store.rule_objects import Found


@pytest.fixture
def source(record: Record) -> Source:
    return new_source(record)


@pytest.fixture
def other(record: Record) -> UUID:
    with record.database.transaction() as session:
        return tenants.create(session, "other")


def limit(record: Record, jobs_open: int | None) -> None:
    with record.database.transaction() as session:
        tenants.change(session, record.tenant, {"jobs_open": jobs_open})


def test_events_wait_while_another_job_would_be_one_too_many(record: Record, source: Source) -> None:
    add_rule(record)
    limit(record, 1)
    asked = record.job()
    tell(record, source, told("a.png"), told("b.png"))
    assert apply(record) == 0
    assert (waiting(record), keys(record), len(jobs_of(record))) == (2, [], 1)
    assert record.run("SELECT * FROM rule_objects") == []
    record.cancel(asked)
    assert apply(record) == 2
    assert (waiting(record), sorted(keys(record))) == (0, ["a.png", "b.png"])


def test_an_open_job_takes_what_it_has_room_for_and_the_rest_waits(record: Record, source: Source) -> None:
    add_rule(record)
    limit(record, 1)
    few = Limits(60.0, 3, "ocr")
    tell(record, source, told("0.png"))
    assert apply(record, few) == 1
    tell(record, source, *(told(f"{n}.png") for n in range(1, 6)))
    assert apply(record, few) == 2
    assert apply(record, few) == 0
    assert (waiting(record), len(keys(record))) == (3, 3)
    (job,) = jobs_of(record)
    finish(record, job.id)
    assert record.state(job.id).state == "completed"
    assert apply(record, few) == 3
    assert sorted(keys(record)) == [f"{n}.png" for n in range(6)]


def test_of_two_rules_the_one_whose_job_is_open_goes_on(record: Record, source: Source) -> None:
    add_rule(record, "first", prefix="a")
    limit(record, 1)
    tell(record, source, told("a1.png"))
    assert apply(record) == 1
    add_rule(record, "second", suffix="2.png")
    tell(record, source, told("b2.png"), told("a2.png"), told("a3.png"))
    assert apply(record) == 1
    assert keys(record) == ["a1.png", "a3.png"]
    limit(record, 2)
    assert apply(record) == 2
    assert sorted(keys(record)) == ["a1.png", "a2.png", "a2.png", "a3.png", "b2.png"]


def test_of_two_rules_one_gets_the_last_job(record: Record, source: Source) -> None:
    add_rule(record, "first", prefix="a")
    add_rule(record, "second", prefix="b")
    limit(record, 1)
    tell(record, source, told("a.png"), told("b.png"))
    assert apply(record) == 1
    assert (keys(record), waiting(record), len(jobs_of(record))) == (["a.png"], 1, 1)


def test_what_waits_for_a_quota_holds_up_no_other_tenant(record: Record, source: Source, other: UUID) -> None:
    add_rule(record)
    limit(record, 0)
    add_rule(record, tenant=other)
    with record.database.transaction() as session:
        made = events.create_source(session, other, "minio", actor="k")
        assert made
        theirs = events.authenticate(session, "minio", made[1])
        assert theirs
    tell(record, source, *(told(f"{n}.png") for n in range(5)))
    tell(record, theirs, told("theirs.png"))
    assert apply(record, limit=2) == 1
    assert (keys(record), waiting(record)) == (["theirs.png"], 5)


def test_a_listing_leaves_what_would_open_one_job_too_many(record: Record) -> None:
    add_rule(record)
    limit(record, 2)
    few = Limits(60.0, 2, "ocr")
    found = [Found(f"{n}.png", "e1") for n in range(7)]

    def scan() -> Taken:
        with record.database.transaction() as session:
            (rule,) = rules.for_objects(session, [record.tenant], ["scans"])
            return rolling.take(session, [(rule, found)], few)

    taken = scan()
    assert (taken.count, sorted(key for _, _, key, _ in taken.left)) == (4, ["4.png", "5.png", "6.png"])
    assert scan().count == 0
    limit(record, 3)
    assert scan().count == 2, "no job for the last one"
    limit(record, None)
    assert scan() == Taken(1, set())
    assert sorted(keys(record)) == [f"{n}.png" for n in range(7)]
    assert [job.items_total for job in jobs_of(record)] == [2, 2, 2, 1]
