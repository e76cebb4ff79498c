"""A job's counts sum to its total, whatever is known of the pages in flight and however old that is."""

from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import RowMapping

from api.caches import Liveness
from api.views import job_view

JOB = UUID(int=1)
NOW = datetime(2026, 11, 20, tzinfo=UTC)
MEMBERS: dict[str, Any] = {
    "id": JOB, "tenant_id": UUID(int=2), "state": "running", "outcome": None, "task": "text", "priority": 0, "labels": {}, "input": {},
    "created_at": NOW, "started_at": NOW, "finished_at": None, "expanded_at": NOW, "deadline": None, "generation": 1, "output": {}, "webhook_ids": [],
    "errors": {}, "error": None, "items_total": 10, "items_pending": 0, "throughput": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("outstanding", "in_flight", "expected"),
    [
        (7, {JOB: (2, 1)}, (4, 2, 1)),
        (7, {}, (7, 0, 0)),
        # What was in flight a moment ago has ended since.
        (2, {JOB: (2, 1)}, (0, 1, 1)),
        (0, {JOB: (2, 1)}, (0, 0, 0)),
    ],
)
def test_counts_sum_to_the_total(
    outstanding: int, in_flight: dict[UUID, tuple[int, int]], expected: tuple[int, int, int]
) -> None:
    row = MEMBERS | {
        "total": 10,
        "succeeded": 10 - outstanding,
        "dead": 0,
        "canceled": 0,
        "outstanding": outstanding,
    }
    live = Liveness(1, frozenset({"text"}), in_flight)
    counts = job_view(cast("RowMapping", row), live, NOW).counts
    assert (counts.ready, counts.dispatched, counts.running) == expected
    assert sum(expected) + counts.succeeded == counts.total
