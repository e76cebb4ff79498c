"""Rolling jobs: each version once, never our own outputs, and never half."""

import pytest
from builders import Record
from rule_acts import (
    LIMITS,
    PER_ITEM,
    add_rule,
    apply,
    close_due,
    finish,
    jobs_of,
    keys,
    new_source,
    tell,
    told,
    waiting,
)

from ocrfleet.bucket_records import Malformed
from ocrfleet.errors import Internal
from ocrfleet.rights import OUR_PREFIXES
from ocrfleet.store import control, events, expansion, rolling
from ocrfleet.store.events import Source
from ocrfleet.store.rolling import Limits


@pytest.fixture
def source(record: Record) -> Source:
    return new_source(record)


def test_an_event_becomes_an_item_of_a_job_as_the_rule_says(record: Record, source: Source) -> None:
    add_rule(
        record, job={"task": "spotting", "priority": 5, "labels": {"a": "b"}, "options": {"cache": False}}
    )
    tell(record, source, told("in/a.png"), told("in/b.pdf"))
    assert apply(record) == 2
    (job,) = jobs_of(record)
    assert (job.task, job.priority, job.labels, job.options) == ("spotting", 5, {"a": "b"}, {"cache": False})
    assert (job.output, job.input["type"], job.input["rule"]) == (PER_ITEM, "rule", "r")
    rows = record.run("SELECT * FROM items ORDER BY key")
    assert [(row.bucket, row.key, row.etag, row.state) for row in rows] == [
        ("scans", "in/a.png", "e1", "counted"),
        ("scans", "in/b.pdf", "e1", "pending"),
    ]
    assert waiting(record) == 0
    assert apply(record) == 0


def test_the_same_event_is_kept_once_and_the_same_version_taken_once(record: Record, source: Source) -> None:
    add_rule(record)
    assert tell(record, source, told("a.png"), told("a.png")) == 1
    assert tell(record, source, told("a.png")) == 0
    apply(record)
    assert tell(record, source, told("a.png", sequencer="2")) == 1, "another event, of the same version"
    apply(record)
    assert keys(record) == ["a.png"]
    tell(record, source, told("a.png", etag="e2", sequencer="3"))
    apply(record)
    assert keys(record) == ["a.png", "a.png"]


def test_what_is_malformed_waits_for_nobody(record: Record, source: Source) -> None:
    add_rule(record)
    assert tell(record, source, Malformed(b"x", "is not JSON")) == 1
    assert tell(record, source, Malformed(b"x", "is not JSON")) == 0
    assert apply(record) == 0
    with record.database.transaction() as session:
        (row,) = events.listing(session, record.tenant, limit=10, quarantined=True)
        assert (row["fault"], bytes(row["raw"]), row["source"]) == ("is not JSON", b"x", "minio")
        assert events.listing(session, record.tenant, limit=10, quarantined=False) == []


def test_a_rule_is_for_its_bucket_its_prefix_and_its_suffix(record: Record, source: Source) -> None:
    add_rule(record, prefix="in/", suffix=".png")
    add_rule(record, "off", enabled=False)
    add_rule(record, "elsewhere", bucket="other")
    tell(record, source, *(told(key) for key in ("in/a.png", "in/a.pdf", "a.png", "in/x/b.png")))
    assert apply(record) == 4
    assert sorted(keys(record)) == ["in/a.png", "in/x/b.png"]


def test_a_rule_of_another_tenant_learns_nothing(record: Record, source: Source) -> None:
    other = record.scalar("INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    add_rule(record, tenant=other)
    tell(record, source, told("a.png"))
    assert apply(record) == 1
    assert keys(record) == []


def test_results_are_never_taken_for_inputs(record: Record, source: Source) -> None:
    other = record.scalar("INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    add_rule(record, "all", job={"output": {"per_item": True, "prefix": "results/"}})
    add_rule(
        record,
        "off",
        enabled=False,
        bucket="in",
        job={"output": PER_ITEM | {"bucket": "scans", "prefix": "late/"}},
    )
    add_rule(record, "beside", prefix="near/", bucket="scans", job={"output": PER_ITEM | {"prefix": "near/"}})
    add_rule(record, "theirs", tenant=other, prefix="x", job={"output": PER_ITEM | {"prefix": "theirs/"}})
    written = [
        "results/a.png.json",
        "results/a.png",
        "late/a.json",
        "late/a.png",
        "near/a.png.json",
        "theirs/a.json",
    ]
    inputs = ["a.json", "near/a.png", "theirs/a.png", "resultsx/a.png"]
    tell(record, source, *(told(key) for key in written + inputs))
    apply(record)
    assert sorted(keys(record)) == sorted([*inputs, "near/a.png"]), "one of them is for two rules"


def test_what_came_from_us_in_our_own_bucket_is_left_out(record: Record, source: Source) -> None:
    add_rule(record, bucket="ocr")
    ours = [f"{prefix}a.png" for prefix in OUR_PREFIXES]
    tell(record, source, *(told(key, bucket="ocr") for key in [*ours, "in/a.png"]))
    add_rule(record, "scans")
    tell(record, source, told("uploads/b.png"))
    apply(record)
    assert sorted(keys(record)) == ["in/a.png", "uploads/b.png"], "in another bucket they are anybody's"


def test_an_open_job_grows_and_does_not_complete(record: Record, source: Source) -> None:
    add_rule(record)
    tell(record, source, told("a.png"))
    apply(record)
    (job,) = jobs_of(record)
    finish(record, job.id)
    assert record.state(job.id).state == "running"
    with record.database.transaction() as session:
        assert expansion.lease(session, 60) is None, "nobody else expands it"
        assert rolling.close_due(session) == 0
    tell(record, source, told("b.png"))
    apply(record)
    assert (record.state(job.id).items_total, len(jobs_of(record))) == (2, 1)
    record.run("UPDATE jobs SET open_until = now()")
    assert close_due(record) == 1
    assert record.state(job.id).state == "running"
    finish(record, job.id)
    done = record.state(job.id)
    assert (done.state, done.outcome, done.open_until) == ("completed", "succeeded", None)
    tell(record, source, told("c.png"))
    apply(record)
    assert len(jobs_of(record)) == 2


def test_a_job_that_has_nothing_left_completes_as_it_is_closed(record: Record, source: Source) -> None:
    add_rule(record)
    tell(record, source, told("a.png"))
    apply(record)
    (job,) = jobs_of(record)
    finish(record, job.id)
    record.run("UPDATE jobs SET open_until = now()")
    close_due(record)
    assert record.state(job.id).state == "completed"


def test_a_full_job_is_closed_and_the_next_one_opened(record: Record, source: Source) -> None:
    add_rule(record)
    tell(record, source, *(told(f"{n}.png") for n in range(7)))
    few = Limits(60.0, 3, "ocr")
    assert apply(record, few, limit=2) == 2
    assert apply(record, few) == 5
    rows = sorted(
        (job.items_total, job.open_until is None, job.listed_at is not None) for job in jobs_of(record)
    )
    assert rows == [(1, False, False), (3, True, True), (3, True, True)]
    assert sorted(keys(record)) == [f"{n}.png" for n in range(7)]


@pytest.mark.parametrize("state", ["canceled", "failed"])
def test_a_job_that_ended_takes_no_more(record: Record, source: Source, state: str) -> None:
    add_rule(record)
    tell(record, source, told("a.png"))
    apply(record)
    (job,) = jobs_of(record)
    if state == "canceled":
        record.cancel(job.id)
    else:
        with record.database.transaction() as session:
            control.fail(session, job.id, Internal("x"))
    tell(record, source, told("b.png"))
    apply(record)
    first, second = jobs_of(record)
    assert (first.state, first.items_total, second.items_total) == (state, 1, 1)
    record.run("UPDATE jobs SET open_until = now()")
    assert close_due(record) == 2
    assert record.state(first.id).state == state


def test_events_and_items_are_written_together_or_not_at_all(record: Record, source: Source) -> None:
    add_rule(record)
    tell(record, source, told("a.png"))

    class KilledError(Exception):
        pass

    def die() -> None:
        with record.database.transaction() as session:
            rolling.apply(session, LIMITS)
            raise KilledError

    with pytest.raises(KilledError):
        die()
    assert (waiting(record), keys(record), jobs_of(record)) == (1, [], [])
    assert record.run("SELECT * FROM rule_objects") == []
    apply(record)
    assert keys(record) == ["a.png"]
