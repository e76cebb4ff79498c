"""The rate of a worker: pages per second of work, over as long as its pages take."""

import pytest

from worker.rate import Rate


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rate(clock: Clock) -> Rate:
    return Rate(clock)


def work(rate: Rate, clock: Clock, *, seconds: float, pages: float, at_once: int = 1) -> list[float]:
    """Pages that take `pages` seconds each, so many at once, one lot after another; a sample every two seconds."""
    samples: list[float] = []
    end, next_sample = clock.now + seconds, clock.now + 2.0
    while clock.now < end:
        lot = [rate.page() for _ in range(at_once)]
        for page in lot:
            page.__enter__()
        ends = clock.now + pages
        while clock.now < ends:
            clock.now = min(ends, next_sample)
            if clock.now == next_sample:
                samples.append(rate.sample())
                next_sample += 2.0
        for page in lot:
            page.__exit__(None, None, None)
    return samples


def test_nothing_is_known_before_the_first_page(rate: Rate, clock: Clock) -> None:
    assert rate.sample() == 0
    with rate.page():
        clock.now += 5
        assert rate.sample() == 0
        assert rate.in_flight == 1


def test_pages_that_take_a_moment(rate: Rate, clock: Clock) -> None:
    samples = work(rate, clock, seconds=60, pages=0.25, at_once=4)
    assert samples[4:] == pytest.approx([16.0] * len(samples[4:]), rel=0.15)


def test_pages_that_take_longer_than_the_time_between_samples(rate: Rate, clock: Clock) -> None:
    samples = work(rate, clock, seconds=400, pages=10.0, at_once=4)
    # What it does is 0.4 pages a second, and it says so in the middle of its pages too.
    assert samples[15:] == pytest.approx([0.4] * len(samples[15:]), rel=0.35)


def test_one_slow_page_at_a_time(rate: Rate, clock: Clock) -> None:
    samples = work(rate, clock, seconds=2000, pages=45.0)
    settled = samples[len(samples) // 2 :]
    assert settled == pytest.approx([1 / 45] * len(settled), rel=0.2)


def test_an_idle_worker_is_not_slow(rate: Rate, clock: Clock) -> None:
    measured = work(rate, clock, seconds=30, pages=0.5)[-1]
    for _ in range(100):
        clock.now += 2
        assert rate.sample() == pytest.approx(measured, rel=0.1)


def test_the_seconds_between_pages_do_not_count(rate: Rate, clock: Clock) -> None:
    for _ in range(50):
        with rate.page():
            clock.now += 0.5
        clock.now += 20
        rate.sample()
    assert rate.sample() == pytest.approx(2.0)


def test_one_that_reads_nothing_while_it_works_is_slow(rate: Rate, clock: Clock) -> None:
    before = work(rate, clock, seconds=30, pages=0.5)[-1]
    with rate.page():
        samples: list[float] = []
        for _ in range(400):
            clock.now += 2
            samples.append(rate.sample())
    assert samples == sorted(samples, reverse=True)
    assert samples[30] < 0.3 * before
    assert samples[-1] == 0, "what was read ten minutes ago says nothing"


def test_pages_that_failed_are_not_read(rate: Rate, clock: Clock) -> None:
    def fail() -> None:
        with rate.page():
            clock.now += 1
            raise ValueError("engine")

    for _ in range(20):
        with pytest.raises(ValueError, match="engine"):
            fail()
    assert rate.sample() == 0
    assert rate.in_flight == 0


def test_a_change_of_pace_is_seen_within_seconds(rate: Rate, clock: Clock) -> None:
    work(rate, clock, seconds=100, pages=2.0)
    faster = work(rate, clock, seconds=30, pages=0.1)
    assert faster[-1] == pytest.approx(10.0, rel=0.05)
