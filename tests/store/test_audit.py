"""The audit: a row for every act, in its transaction, for its tenant alone."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from builders import Record

from ocrfleet.store import audit, tenants


def record_acts(record: Record, *acts: str, subject: str = "job:1") -> None:
    for act in acts:
        with record.database.transaction() as session:
            audit.record(session, record.tenant, "key", act, subject)


def test_what_was_done_is_kept_as_it_was_given(record: Record) -> None:
    job_id, at = uuid4(), datetime(2026, 11, 20, 9, tzinfo=UTC)
    with record.database.transaction() as session:
        audit.record(session, record.tenant, "key", "change", "job:1", job=job_id, at=at, codes=["a", None])
    with record.database.transaction() as session:
        (row,) = audit.listing(session, record.tenant, limit=9)
    assert (row["actor"], row["act"], row["subject"]) == ("key", "change", "job:1")
    assert row["detail"] == {"job": str(job_id), "at": "2026-11-20T09:00:00+00:00", "codes": ["a", None]}
    assert row["at"].tzinfo is not None


def test_an_act_that_fails_leaves_no_row(record: Record) -> None:
    def act() -> None:
        with record.database.transaction() as session:
            audit.record(session, record.tenant, "key", "cancel", "job:1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act()
    with record.database.transaction() as session:
        assert audit.listing(session, record.tenant, limit=9) == []


def test_acts_are_listed_newest_first_page_by_page_and_by_subject(record: Record) -> None:
    record_acts(record, "one", "two", "three")
    record_acts(record, "other", subject="job:2")
    with record.database.transaction() as session:
        first = audit.listing(session, record.tenant, limit=2)
        rest = audit.listing(session, record.tenant, limit=9, before=first[-1]["id"])
        one = audit.listing(session, record.tenant, limit=9, subject="job:2")
    assert [row["act"] for row in (*first, *rest)] == ["other", "three", "two", "one"]
    assert [row["act"] for row in one] == ["other"]


def test_another_tenant_sees_none(record: Record) -> None:
    record_acts(record, "cancel")
    with record.database.transaction() as session:
        other = tenants.create(session, "other")
        assert audit.listing(session, other, limit=9, act="cancel") == []
