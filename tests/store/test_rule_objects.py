"""What rules have taken: an object put back is read again, old news brings nothing back, what is gone is forgotten."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from builders import Record
from rule_acts import LIMITS, add_rule, apply, new_source, tell, told

from ocrfleet.bucket_records import Told
from ocrfleet.store import rolling, rule_objects, rules
from ocrfleet.store.events import Source
from ocrfleet.store.rule_objects import Found

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
Event = Callable[[str, int], Told]


@pytest.fixture
def source(record: Record) -> Source:
    return new_source(record)


def by_time(etag: str, number: int) -> Told:
    """As a store without sequencers tells."""
    at = NOON + timedelta(seconds=number)
    return replace(told("a.png", etag, f"{number}"), order=None, happened_at=at)


def by_sequencer(etag: str, number: int) -> Told:
    """The times say nothing, or are wrong; the shorter sequencer is padded on its right."""
    return replace(by_time(etag, -number), order="17A" if number == 0 else f"17A{number}")


either_way = pytest.mark.parametrize("event", [by_time, by_sequencer])


def handle(record: Record, source: Source, *found: Told) -> list[str]:
    """Apply the rules to the events together; returns the ETags of all items, as they were made."""
    tell(record, source, *found)
    apply(record)
    return [row.etag for row in record.run("SELECT etag FROM items ORDER BY id")]


def scan(record: Record, *found: Found) -> int:
    with record.database.transaction() as session:
        (rule,) = rules.for_objects(session, [record.tenant], ["scans"])
        return rolling.take(session, [(rule, found)], LIMITS).count


def listed(etag: str, seconds: int, key: str = "a.png") -> Found:
    return Found(key, etag, at=NOON + timedelta(seconds=seconds), listed=True)


@either_way
def test_an_object_put_back_to_what_it_was_is_read_again(
    record: Record, source: Source, event: Event
) -> None:
    add_rule(record)
    for number, etag in enumerate(("A", "B", "A")):
        handle(record, source, event(etag, number))
    assert handle(record, source) == ["A", "B", "A"]
    assert [row.etag for row in record.run("SELECT etag FROM rule_objects")] == ["A"], "one row for each key"


@either_way
def test_old_news_brings_no_old_version_back(record: Record, source: Source, event: Event) -> None:
    add_rule(record)
    handle(record, source, event("B", 2))
    assert handle(record, source, event("A", 1)) == ["B"]
    assert handle(record, source, event("B", 4)) == ["B"]
    assert handle(record, source, event("C", 3)) == ["B"], "what is there was put there after it"
    assert handle(record, source, event("C", 5)) == ["B", "C"]


@either_way
def test_of_versions_told_together_the_last_one_counts(record: Record, source: Source, event: Event) -> None:
    add_rule(record)
    assert handle(record, source, event("B", 2), event("A", 1)) == ["B"]
    assert handle(record, source, event("C", 3), event("B", 4)) == ["B"]
    assert handle(record, source, event("C", 3)) == ["B"]


def test_a_listing_is_news_of_when_it_was_asked_for(record: Record, source: Source) -> None:
    add_rule(record)
    handle(record, source, by_time("C", 10))
    assert scan(record, listed("B", 9)) == 0, "the event came while it was listed"
    assert scan(record, listed("D", 11)) == 1
    assert handle(record, source, by_time("C2", 5)) == ["C", "D"]


def test_what_listings_show_no_more_is_forgotten_and_not_at_once(record: Record) -> None:
    rule_id = add_rule(record)
    assert scan(record, listed("A", 0), listed("A", 0, "gone.png")) == 2
    record.run("UPDATE rule_objects SET seen_at = now() - interval '2 days'")
    assert scan(record, listed("A", 1)) == 0

    def forget() -> int:
        with record.database.transaction() as session:
            return rule_objects.forget(session, rule_id, rule_objects.clock(session))

    assert forget() == 0
    record.run("UPDATE rule_objects SET seen_at = seen_at - interval '6 days'")
    assert forget() == 1
    assert [row.key for row in record.run("SELECT key FROM rule_objects")] == ["a.png"]
