"""Failpoints: what the setting means, and that nothing happens without it. What each does: tests/flow/test_fleet_failpoints.py."""

import subprocess
import sys

import pytest

from ocrfleet import failpoints
from ocrfleet.failpoints import POINTS, Failpoint, Unknown
from ocrfleet.settings import child_environment


def test_no_point_is_armed_by_default() -> None:
    assert failpoints.parse("") == {}
    for name in POINTS:
        failpoints.reach(name)


def test_a_setting_says_what_happens_and_when() -> None:
    given = failpoints.parse(
        "worker.claimed=exit@3, expand.chunk=pause:0.5@2,purge.chunk=pause:7,redrive.chunk=exit@p0.25"
    )
    found = {name: (one.pause, one.nth, one.probability) for name, one in given.items()}
    assert found == {
        "worker.claimed": (None, 3, 1.0),
        "expand.chunk": (0.5, 2, 1.0),
        "purge.chunk": (7.0, 0, 1.0),
        "redrive.chunk": (None, 0, 0.25),
    }


def test_an_unknown_name_is_refused_with_the_list_of_those_there_are() -> None:
    with pytest.raises(
        Unknown, match=r"no failpoint 'worker\.eats'; there are worker\.claimed, .*purge\.chunk"
    ):
        failpoints.parse("worker.eats=exit")


@pytest.mark.parametrize(
    "said", ["", "explode", "exit:3", "pause", "pause:", "pause:soon", "exit@soon", "exit@p", "exit@p0.5/x"]
)
def test_words_that_mean_nothing_are_refused(said: str) -> None:
    with pytest.raises(Unknown, match="NAME=exit or NAME=pause:SECONDS"):
        failpoints.parse(f"worker.claimed={said}")


def paused(point: Failpoint, times: int) -> list[int]:
    """At which of so many times the point paused, by a pause that is over at once."""
    found: list[int] = []
    for n in range(1, times + 1):
        before = point.acted
        point.reach()
        found += [n] * (point.acted - before)
    return found


def test_a_point_acts_the_time_it_is_told_to() -> None:
    given = failpoints.parse("worker.claimed=pause:0@3,expand.chunk=pause:0")
    assert paused(given["worker.claimed"], 9) == [3]
    assert paused(given["expand.chunk"], 3) == [1, 2, 3]


def test_a_probability_with_a_seed_acts_the_same_times_again() -> None:
    first, again, other = (
        paused(failpoints.parse(f"worker.claimed=pause:0@p0.2/{seed}")["worker.claimed"], 400)
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert 40 < len(first) < 130


def test_a_service_does_not_start_with_a_failpoint_that_is_not_there() -> None:
    environment = child_environment(OCRFLEET_FAILPOINTS="nowhere=exit", OCRFLEET_STORE_URL="null://")
    for service in ("api", "producer", "worker"):
        argv = [sys.executable, "-m", service]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert "there is no failpoint 'nowhere'" in done.stderr
