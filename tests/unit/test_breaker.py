"""The breaker: what counts, when it opens, when a probe is due, and what closes it."""

import random

import pytest

from ocrfleet.errors import BY_CODE, Internal, StorageUnavailable
from worker.breaker import CAP, FIRST, LIMIT, Breaker, State, counts

OF_THE_PAGE = [
    "corrupt_file",
    "encrypted_pdf",
    "input_not_found",
    "too_many_pixels",
    "render_timeout",
    "poison_page",
    "unknown_task",
    "prompt_too_long",
]
OF_THE_WORKER = [
    "storage_unavailable",
    "engine_crashed",
    "rate_limited",
    "no_capacity",
    "model_loading",
    "internal",
    "engine_oom",
    "inference_timeout",
]
ANSWERS = ["repetition_loop", "output_truncated", "output_invalid", "empty_output"]


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Middle(random.Random):
    """Draws neither early nor late."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock=clock, chance=Middle())


def fail(breaker: Breaker, code: str = "engine_crashed", times: int = 1) -> list[bool]:
    return [breaker.settled(BY_CODE[code]("it broke")) for _ in range(times)]


def opened(breaker: Breaker, code: str = "engine_crashed") -> Breaker:
    fail(breaker, code, LIMIT)
    assert breaker.state is State.OPEN
    return breaker


@pytest.mark.parametrize("code", OF_THE_WORKER)
def test_25_failures_in_a_row_open_it_with_their_reason(breaker: Breaker, code: str) -> None:
    assert fail(breaker, code, 24) == [False] * 24
    assert (breaker.state, breaker.reason) == (State.CLOSED, None)
    assert fail(breaker, code) == [True]
    assert breaker.state is State.OPEN
    assert breaker.reason == f"held back after 25 failures in a row, the last {code}: it broke"
    assert breaker.of_store is (code == "storage_unavailable")


@pytest.mark.parametrize("code", [*OF_THE_PAGE, *ANSWERS])
def test_what_is_the_pages_own_never_opens_it(breaker: Breaker, code: str) -> None:
    assert not any(fail(breaker, code, 1000))
    assert breaker.state is State.CLOSED


def test_every_code_that_costs_a_page_nothing_counts() -> None:
    free = {code for code, error in BY_CODE.items() if error.free}
    assert {code for code, error in BY_CODE.items() if counts(error())} == free | {
        "internal",
        "engine_oom",
        "inference_timeout",
    }


def test_a_success_begins_the_count_anew(breaker: Breaker) -> None:
    fail(breaker, times=24)
    assert not breaker.settled(None)
    fail(breaker, times=24)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("code", ANSWERS)
def test_an_answer_that_is_no_use_begins_it_anew_too(breaker: Breaker, code: str) -> None:
    fail(breaker, times=24)
    fail(breaker, code)
    fail(breaker, times=24)
    assert breaker.state is State.CLOSED


def test_faults_of_pages_between_them_do_not_interrupt_the_row(breaker: Breaker) -> None:
    for _ in range(12):
        fail(breaker, "engine_crashed", 2)
        fail(breaker, "corrupt_file")
    assert fail(breaker) == [True]


def test_a_page_that_needed_no_engine_speaks_for_the_store_alone(breaker: Breaker) -> None:
    fail(breaker, "storage_unavailable", 24)
    breaker.fetched()
    fail(breaker, "storage_unavailable", 24)
    assert breaker.state is State.CLOSED
    fail(breaker, "engine_crashed")
    assert breaker.state is State.OPEN
    breaker.probed(None)
    assert not breaker.fetched()
    assert breaker.state is State.HALF_OPEN


def test_what_began_before_it_opened_changes_nothing(breaker: Breaker) -> None:
    opened(breaker)
    due = breaker.due_in()
    assert not breaker.settled(None)
    assert not any(fail(breaker, times=50))
    assert (breaker.state, breaker.due_in()) == (State.OPEN, due)


def test_the_first_probe_is_due_after_five_seconds_then_each_after_twice_as_long(
    breaker: Breaker, clock: Clock
) -> None:
    opened(breaker)
    assert breaker.due_in() == FIRST == 5.0
    clock.now += 3
    assert breaker.due_in() == 2.0
    clock.now += 10
    assert breaker.due_in() == 0.0
    waits: list[float] = []
    for _ in range(5):
        breaker.probed(StorageUnavailable("still away"))
        assert breaker.state is State.OPEN
        waits.append(breaker.due_in())
    assert waits == [10, 20, 40, 60, 60]
    assert CAP == 60.0
    assert "a probe found storage_unavailable: still away" in (breaker.reason or "")


def test_workers_do_not_probe_all_at_once(clock: Clock) -> None:
    waits = {opened(Breaker(clock=clock, chance=random.Random(n))).due_in() for n in range(200)}  # noqa: S311
    assert len(waits) > 190
    assert 3.75 <= min(waits) < 4
    assert 6 < max(waits) <= 6.25


def test_a_probe_that_passes_lets_pages_in_and_one_that_is_read_closes_it(breaker: Breaker) -> None:
    opened(breaker).probed(None)
    assert breaker.state is State.HALF_OPEN
    assert breaker.reason is not None, "the heartbeats go on to say why"
    assert not breaker.settled(BY_CODE["corrupt_file"]())
    assert breaker.state is State.HALF_OPEN, "nothing is known yet"
    assert breaker.settled(None)
    assert (breaker.state, breaker.reason) == (State.CLOSED, None)
    assert not any(fail(breaker, times=24))
    fail(breaker)
    assert breaker.due_in() == FIRST


def test_one_failure_opens_it_again_for_twice_as_long(breaker: Breaker) -> None:
    opened(breaker).probed(None)
    assert breaker.settled(Internal("still broken"))
    assert breaker.state is State.OPEN
    assert breaker.due_in() == 2 * FIRST
    breaker.probed(None)
    fail(breaker)
    assert breaker.due_in() == 4 * FIRST
