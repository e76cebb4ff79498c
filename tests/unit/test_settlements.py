"""What the record is told of a failed attempt: whom it is charged to, when it runs again, and what is kept of it."""

import random
from typing import Any
from uuid import UUID

import orjson
import pytest
from fleet_builders import claimed_page

from ocrfleet.errors import (
    EngineCrashed,
    EngineOom,
    FleetError,
    Internal,
    OutputTruncated,
    StorageUnavailable,
)
from ocrfleet.states import PageState
from ocrfleet.store.settle import Settlement
from worker import settlements
from worker.escalation import plan

WORKER = UUID(int=7)


def failed(error: FleetError, **page: Any) -> Settlement:
    given = claimed_page(**page)
    chance = random.Random(1)  # noqa: S311 (jitter)
    return settlements.failed(given, plan(given, 1_000_000), error, WORKER, chance, {"fetch": 12, "wait": 3})


def crashed(*, alone: bool) -> EngineCrashed:
    error = EngineCrashed("its process ended")
    error.alone = alone
    return error


def test_a_failure_of_the_page_is_charged_to_it() -> None:
    found = failed(EngineOom("no memory"))
    assert (found.state, found.failed, found.lost) == (PageState.READY, True, False)
    assert 0 < found.delay <= 2
    assert (found.code, found.detail, found.incarnation) == ("engine_oom", "no memory", WORKER)


def test_a_failure_of_others_is_not() -> None:
    found = failed(StorageUnavailable("no answer"), attempt=3)
    assert (found.state, found.failed, found.lost) == (PageState.READY, False, False)
    assert 0 < found.delay <= 4


def test_the_end_says_why_with_limit_and_actual_and_how_it_was_tried() -> None:
    error = OutputTruncated("too long", limit=8192, actual=8192, partial="the beginning of …")
    found = failed(error, failures=3, codes=("output_truncated",) * 3)
    assert (found.state, found.failed, found.delay) == (PageState.DEAD, True, 0)
    told = {
        "code": "output_truncated",
        "retryable": True,
        "detail": "too long",
        "limit": 8192,
        "actual": 8192,
    }
    assert orjson.loads(found.body) == {"error": told}, "without the raw output"
    kept = orjson.loads(found.parameters)
    assert (kept["partial"], kept["temperature"]) == ("the beginning of …", 0.3)


@pytest.mark.parametrize("state", [PageState.READY, PageState.DEAD])
def test_an_attempt_keeps_the_times_it_has(state: PageState) -> None:
    dead = {"failures": 1, "codes": ("internal",)} if state is PageState.DEAD else {}
    found = failed(Internal("a bug"), **dead)
    assert found.state is state
    assert orjson.loads(found.timings) == {"fetch": 12, "wait": 3}


def test_an_error_that_is_tried_once_more_is_so_after_others_too() -> None:
    assert failed(Internal("a bug"), failures=1, codes=("engine_oom",)).state is PageState.READY
    both = ("internal", "engine_oom", "storage_unavailable")
    assert failed(Internal("a bug"), failures=2, codes=both).state is PageState.DEAD
    before_a_redrive = ("internal", "internal", "engine_oom")
    assert failed(Internal("a bug"), failures=1, codes=before_a_redrive).state is PageState.READY


@pytest.mark.parametrize("alone", [True, False])
def test_an_engine_process_that_ends_under_one_page_alone_is_a_loss_of_that_page(alone: bool) -> None:
    found = failed(crashed(alone=alone))
    assert (found.state, found.failed, found.lost, found.exclusive) == (PageState.READY, False, alone, False)
    assert found.code == "engine_crashed"


@pytest.mark.parametrize(
    ("losses", "proofs", "alone", "poison"),
    [
        (2, 0, True, False),  # the first proof
        (3, 1, True, True),
        (3, 1, False, False),  # others were in the process
        (1, 1, True, False),  # it did not run alone
    ],
)
def test_the_second_process_that_ends_while_the_page_runs_exclusively_makes_it_poison(
    losses: int, proofs: int, alone: bool, poison: bool
) -> None:
    found = failed(crashed(alone=alone), losses=losses, proofs=proofs, attempt=losses + 1)
    assert found.state is (PageState.DEAD if poison else PageState.READY)
    assert found.code == ("poison_page" if poison else "engine_crashed")
    assert found.exclusive is (losses >= 2)
    if poison:
        assert orjson.loads(found.body)["error"]["retryable"] is False
        assert orjson.loads(found.body)["error"]["last"] == "its process ended"
