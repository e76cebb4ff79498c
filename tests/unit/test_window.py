"""How many requests a server gets at once."""

import time

from worker.engines.window import Window


def test_a_refusal_halves_it_once_for_all_that_was_sent_before() -> None:
    window = Window(64)
    sent = time.monotonic()
    for _ in range(10):
        window.cut(sent)
    assert window.size == 32
    window.cut(time.monotonic())
    assert window.size == 16


def test_it_never_closes() -> None:
    window = Window(4)
    for _ in range(10):
        window.cut(time.monotonic())
    assert window.size == 1


def test_after_a_refusal_it_grows_by_one_a_round_up_to_its_top() -> None:
    window = Window(16)
    window.cut(time.monotonic())
    for _ in range(8):
        window.grow()
    assert 8 < window.size + 1 <= 10
    for _ in range(1000):
        window.grow()
    assert window.size == 16


def test_a_server_that_comes_back_soon_has_all_its_requests_again() -> None:
    window = Window(64)
    for _ in range(5):
        window.close()
    assert window.size == 1
    for _ in range(63):
        window.grow()
    assert window.size == 64
