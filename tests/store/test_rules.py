"""Rules, their listings, and the sources of events."""

from collections.abc import Callable
from typing import Any

import pytest
from builders import Racer, Record
from rule_acts import (
    LIMITS,
    add_rule,
    apply,
    close_due,
    jobs_of,
    keys,
    new_source,
    tell,
    told,
    waiting,
)
from sqlalchemy.orm import Session

from ocrfleet.bucket_records import Malformed
from ocrfleet.store import events, rolling, rules
from ocrfleet.store.events import Source
from ocrfleet.store.rule_objects import Found


@pytest.fixture
def source(record: Record) -> Source:
    return new_source(record)


def change(record: Record, rule_id: int, **changes: Any) -> None:
    with record.database.transaction() as session:
        rule = rules.lock(session, record.tenant, rule_id)
        assert rule
        rules.change(session, rule, changes, actor="k")


def remove(record: Record, rule_id: int) -> None:
    with record.database.transaction() as session:
        rule = rules.lock(session, record.tenant, rule_id)
        assert rule
        rules.delete(session, rule, actor="k")


@pytest.mark.parametrize(
    "act", [lambda record, rule_id: change(record, rule_id, job={"task": "parse", "options": {}}), remove]
)
def test_a_rule_that_is_changed_or_deleted_lets_go_of_its_job(
    record: Record, source: Source, act: Callable[[Record, int], None]
) -> None:
    rule_id = add_rule(record)
    tell(record, source, told("a.png"))
    apply(record)
    act(record, rule_id)
    tell(record, source, told("b.png"))
    apply(record)
    assert [job.items_total for job in jobs_of(record)] in ([1, 1], [1])
    assert close_due(record) == 1
    acts = [row.act for row in record.run("SELECT act FROM audit ORDER BY id")]
    assert acts[:2] == ["create_event_source", "create_bucket_rule"]
    assert acts[2] in ("change_bucket_rule", "delete_bucket_rule")


def test_two_rules_of_one_name_are_refused(record: Record) -> None:
    add_rule(record)
    second = add_rule(record, "s")
    with pytest.raises(rules.NameTaken):
        add_rule(record)
    with pytest.raises(rules.NameTaken):
        change(record, second, name="r")


def test_a_listing_goes_on_from_its_cursor_and_only_while_the_rule_is_the_same(record: Record) -> None:
    rule_id = add_rule(record)

    def lease(seconds: float = 60.0) -> rules.Rule | None:
        with record.database.transaction() as session:
            return rules.lease(session, seconds)

    first = lease()
    assert first
    assert lease() is None, "it is leased"
    with record.database.transaction() as session:
        rules.advance(session, first, {"after": "m"}, 0.0)
    second = lease()
    assert second
    assert second.cursor == {"after": "m"}
    with record.database.transaction() as session:
        assert rules.relock(session, first) is None, "another has gone on"
        assert rules.relock(session, second) == second
    change(record, rule_id, prefix="in/")
    with record.database.transaction() as session:
        assert rules.relock(session, second) is None
    third = lease()
    assert third
    assert (third.cursor, third.prefix) == ({}, "in/")
    with record.database.transaction() as session:
        rules.finish(session, third, fault="input_not_found: no bucket")
    assert lease() is None, "not before its time"
    with record.database.transaction() as session:
        row = rules.get(session, record.tenant, rule_id)
        assert row
        assert row["rescan_fault"] == "input_not_found: no bucket"
    change(record, rule_id, enabled=False)
    assert lease() is None


def test_sources_are_known_by_their_token_and_forgotten_events_go(record: Record, source: Source) -> None:
    add_rule(record)
    tell(record, source, told("a.png"), told("b.png"), Malformed(b"x", "y"))
    apply(record, limit=1)
    with record.database.transaction() as session:
        assert events.authenticate(session, "minio", "ocre_nonsense") is None
        assert events.expire(session, 3600.0) == 0
        assert events.expire(session, 0.0) == 2, "what waits stays"
        (shown,) = events.sources(session, record.tenant, limit=10)
        assert (shown["name"], shown["quarantined"]) == ("minio", 0)
        assert events.create_source(session, record.tenant, "minio", actor="k") is None
        assert events.delete_source(session, record.tenant, source.id, actor="k")
        assert events.delete_source(session, record.tenant, source.id, actor="k") is None


def test_what_a_deleted_source_has_told_is_seen_no_more_and_taken_away_step_by_step(
    record: Record, source: Source
) -> None:
    add_rule(record)
    tell(record, source, *(told(f"{n}.png") for n in range(3)))
    with record.database.transaction() as session:
        assert len(events.listing(session, record.tenant, limit=10)) == 3
        assert events.delete_source(session, record.tenant, source.id, actor="k")
    assert waiting(record) == 3, "the request takes none of them away"
    assert apply(record) == 0
    other = new_source(record)
    tell(record, other, told("later.png"))
    with record.database.transaction() as session:
        (event,) = events.listing(session, record.tenant, limit=10)
        (shown,) = events.sources(session, record.tenant, limit=10)
        assert (event["key"], shown["id"]) == ("later.png", other.id)
        assert shown["last_event_at"] == event["received_at"]
        assert [events.drop_deleted(session, limit=2) for _ in range(3)] == [2, 1, 0]
    assert [row.id for row in record.run("SELECT id FROM event_sources")] == [other.id]
    assert [row.key for row in record.run("SELECT key FROM bucket_events")] == ["later.png"]


def test_a_listing_that_goes_on_waits_for_the_others_that_are_due(record: Record) -> None:
    huge, small = add_rule(record, "huge"), add_rule(record, "small")

    def turn() -> int:
        with record.database.transaction() as session:
            rule = rules.lease(session, 60.0)
            assert rule
        with record.database.transaction() as session:
            rules.advance(session, rule, {"after": "m"}, 0.0)
        return rule.id

    assert [turn() for _ in range(4)] == [huge, small, huge, small]


def test_a_listing_and_an_event_that_meet_take_an_object_once_and_fill_one_job(
    record: Record, source: Source
) -> None:
    rule_id = add_rule(record)
    tell(record, source, told("a.png"), told("b.png"))
    with record.database.transaction() as session:
        leased = rules.lease(session, 60)
        assert leased
        assert leased.id == rule_id

    def scan(session: Session, *names: str) -> int:
        held = rules.relock(session, leased)
        assert held
        return rolling.take(session, [(held, [Found(key, "e1") for key in names])], LIMITS).count

    with record.database.transaction() as session:
        assert scan(session, "c.png", "d.png") == 2
        racer = Racer(record.database, lambda other: rolling.apply(other, LIMITS))
        assert racer.waits()
    assert racer.result() == 2
    with record.database.transaction() as session:
        assert scan(session, "a.png", "c.png") == 0
    assert sorted(keys(record)) == ["a.png", "b.png", "c.png", "d.png"]
    assert len(jobs_of(record)) == 1
