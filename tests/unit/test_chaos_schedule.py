"""The schedule of the chaos suite: the same seed gives the same acts, and a whole run has kills enough of every kind."""

from itertools import islice

from tests.chaos.schedule import COUNTED, Round, cycles, short


def kills(rounds: list[Round]) -> dict[str, int]:
    """By victim, those that may count."""
    steps = [step for one in rounds if not one.mayhem for track in one.tracks for step in track]
    return {victim: sum(step.act == victim for step in steps) for victim in COUNTED}


def test_a_seed_gives_the_same_run_again() -> None:
    assert short(7) == short(7) != short(8)
    assert list(islice(cycles(7), 3)) == list(islice(cycles(7), 3)) != list(islice(cycles(8), 3))


def test_ten_cycles_are_a_thousand_kills_and_a_hundred_of_each() -> None:
    found = kills([one for cycle in islice(cycles(1), 10) for one in cycle])
    assert sum(found.values()) > 1050
    assert min(found.values()) >= 120


def test_the_short_form_has_some_of_every_kind() -> None:
    found = kills(short(1))
    assert sum(found.values()) >= 35
    assert min(found.values()) >= 5


def test_who_disturbs_a_workers_recovery_is_killed_in_another_round() -> None:
    for one in (*short(1), *(one for cycle in islice(cycles(1), 10) for one in cycle)):
        victims = {step.act for track in one.tracks for step in track}
        assert one.mayhem or "worker" not in victims or victims == {"worker", "api"}
