"""How many pages the vLLM engine wants by its own figures."""

import pytest

from worker.engines.vllm_feed import Load, ahead, wanted

LIMIT = 64


def test_an_idle_engine_wants_its_allowance() -> None:
    assert wanted(Load(), LIMIT) == ahead(LIMIT) > 0


def test_it_grows_with_what_runs_up_to_the_limit_and_its_allowance() -> None:
    grown = [wanted(Load(running=n), LIMIT) for n in range(LIMIT + 1)]
    assert grown == sorted(grown)
    assert grown[1] > grown[0]
    assert grown[-1] == LIMIT + ahead(LIMIT)


def test_never_more_than_the_limit_and_its_allowance() -> None:
    assert wanted(Load(running=3 * LIMIT), LIMIT) == LIMIT + ahead(LIMIT)


def test_a_page_that_waits_its_turn_in_a_cache_with_room_keeps_nobody_out() -> None:
    assert wanted(Load(running=10, waiting=3, cache_usage=0.5), LIMIT) == wanted(Load(running=10), LIMIT)


def test_a_full_cache_that_keeps_pages_waiting_lets_the_number_fall_to_those_that_run_and_few_more() -> None:
    full = [wanted(Load(running=n, waiting=2, cache_usage=0.99), LIMIT) for n in (40, 30, 20)]
    assert full == sorted(full, reverse=True)
    assert all(
        n < found < wanted(Load(running=n), LIMIT) for n, found in zip((40, 30, 20), full, strict=True)
    )


def test_a_full_cache_that_keeps_nobody_waiting_changes_nothing() -> None:
    assert wanted(Load(running=20, cache_usage=0.99), LIMIT) == wanted(Load(running=20), LIMIT)


@pytest.mark.parametrize("limit", [1, 2, 8, 512])
def test_at_least_one_page_is_always_wanted_beyond_those_that_run(limit: int) -> None:
    for running in range(limit + 1):
        for waiting in (0, 5):
            assert wanted(Load(running, waiting, 1.0), limit) > running
