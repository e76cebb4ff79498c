"""What each failure means for its page: its class, its budget and its backoff."""

import random

import pytest

from ocrfleet.errors import BY_CODE, RetryClass
from worker.retry import Dead, Retry, decide

NEVER = [
    "empty_file",
    "corrupt_file",
    "unsupported_media_type",
    "image_too_small",
    "decompression_bomb",
    "too_many_pixels",
    "render_timeout",
    "poison_page",
]
CALLER = [
    "input_not_found",
    "input_access_denied",
    "input_changed",
    "encrypted_pdf",
    "too_many_pages",
    "file_too_large",
    "validation_failed",
    "manifest_invalid",
    "unknown_task",
    "prompt_too_long",
]
FREE = [
    "storage_unavailable",
    "engine_crashed",
    "worker_lost",
    "rate_limited",
    "no_capacity",
    "model_loading",
]
ONCE = ["internal", "inference_timeout", "empty_output"]
SHARED = ["engine_oom", "repetition_loop", "output_truncated", "output_invalid"]
ESCALATED = [*SHARED, "inference_timeout", "empty_output"]


class Longest(random.Random):
    """Draws the longest delay there can be."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


def verdict(code: str, *, attempt: int = 1, failures: int = 0, same: int = 0) -> Dead | Retry:
    return decide(BY_CODE[code](), attempt=attempt, failures=failures, same=same, chance=Longest())


@pytest.mark.parametrize("code", [*NEVER, *CALLER])
def test_a_fault_of_the_input_is_never_retried(code: str) -> None:
    assert BY_CODE[code].retry == (RetryClass.NEVER if code in NEVER else RetryClass.CALLER)
    assert verdict(code) == Dead()


@pytest.mark.parametrize("code", FREE)
def test_a_fault_of_others_spends_nothing_however_often_it_comes(code: str) -> None:
    for attempt in (1, 2, 7, 500, 30_000):
        assert isinstance(given := verdict(code, attempt=attempt), Retry)
        assert not given.charged
    # Nor does it matter what the page has spent before.
    assert isinstance(verdict(code, attempt=9, failures=3), Retry)


@pytest.mark.parametrize("code", FREE)
def test_the_backoff_of_others_faults_doubles_from_one_second_to_a_minute(code: str) -> None:
    delays = [given.delay for n in range(1, 10) if isinstance(given := verdict(code, attempt=n), Retry)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize("code", SHARED)
def test_four_failures_end_a_page(code: str) -> None:
    given = [verdict(code, attempt=n + 1, failures=n, same=n) for n in range(4)]
    assert given == [Retry(2, charged=True), Retry(4, charged=True), Retry(8, charged=True), Dead()]


@pytest.mark.parametrize("code", ONCE)
def test_these_are_tried_once_more_only(code: str) -> None:
    assert verdict(code) == Retry(2, charged=True)
    assert verdict(code, attempt=2, failures=1, same=1) == Dead()


@pytest.mark.parametrize("code", ONCE)
def test_these_are_tried_once_more_after_other_failures_too(code: str) -> None:
    assert verdict(code, attempt=2, failures=1) == Retry(4, charged=True)
    assert verdict(code, attempt=3, failures=2, same=1) == Dead()


@pytest.mark.parametrize("code", [*ONCE, *SHARED])
def test_all_failures_of_a_page_share_one_budget(code: str) -> None:
    assert verdict(code, attempt=4, failures=3) == Dead()


@pytest.mark.parametrize("code", ESCALATED)
def test_these_run_again_with_other_parameters(code: str) -> None:
    assert BY_CODE[code].retry == RetryClass.ESCALATE


@pytest.mark.parametrize("code", ["storage_unavailable", "engine_oom"])
def test_the_jitter_is_full(code: str) -> None:
    chance = random.Random(7)  # noqa: S311 (jitter)
    given = [decide(BY_CODE[code](), attempt=3, failures=0, same=0, chance=chance) for _ in range(300)]
    delays = [one.delay for one in given if isinstance(one, Retry)]
    ceiling = 4.0 if code == "storage_unavailable" else 2.0
    assert len(delays) == 300
    assert 0 <= min(delays) < ceiling * 0.05
    assert ceiling * 0.95 < max(delays) <= ceiling
