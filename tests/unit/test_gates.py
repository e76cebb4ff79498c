"""Who may run when: pages by lane, and a suspected page alone."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from ocrfleet.states import Lane
from worker.gates import BatchGate, PageGate

PATIENCE = 10.0
A_MOMENT = 0.1


async def turn_over() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_interactive_pages_enter_before_bulk_ones_that_wait_longer() -> None:
    async def scenario() -> list[str]:
        gate, entered = PageGate(lambda: 1), list[str]()

        async def page(name: str, lane: Lane) -> None:
            await gate.enter(lane)
            entered.append(name)

        await gate.enter(Lane.BULK)
        pages = [page("bulk 1", Lane.BULK), page("bulk 2", Lane.BULK), page("interactive", Lane.INTERACTIVE)]
        tasks = [asyncio.ensure_future(one) for one in pages]
        await turn_over()
        assert entered == [], "the gate holds one page"
        for _ in tasks:
            gate.leave()
            await turn_over()
        await asyncio.gather(*tasks)
        return entered

    assert asyncio.run(scenario()) == ["interactive", "bulk 1", "bulk 2"]


@pytest.mark.parametrize("its_turn_came", [False, True])
def test_a_canceled_page_passes_its_turn_on(*, its_turn_came: bool) -> None:
    async def scenario() -> None:
        gate = PageGate(lambda: 1)
        await gate.enter(Lane.BULK)
        first = asyncio.ensure_future(gate.enter(Lane.BULK))
        second = asyncio.ensure_future(gate.enter(Lane.BULK))
        await turn_over()
        if its_turn_came:
            # Both in one step of the loop: it is canceled before it could notice its turn.
            gate.leave()
            first.cancel()
        else:
            first.cancel()
            await turn_over()
            gate.leave()
        await asyncio.wait_for(second, PATIENCE)
        assert first.cancelled()
        gate.leave()
        # Nothing leaked: exactly one page fits again.
        await asyncio.wait_for(gate.enter(Lane.BULK), PATIENCE)
        third = asyncio.ensure_future(gate.enter(Lane.BULK))
        await turn_over()
        assert not third.done()
        third.cancel()

    asyncio.run(scenario())


class Batch:
    """A batch on a thread of its own that stays until it is told to leave."""

    def __init__(self, gate: BatchGate, *, exclusive: bool = False) -> None:
        self.inside, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, args=(gate, exclusive), daemon=True)
        self.thread.start()

    def _run(self, gate: BatchGate, exclusive: bool) -> None:
        with gate.enter(exclusive=exclusive):
            self.inside.set()
            self.leave.wait(PATIENCE)

    def is_inside(self) -> bool:
        return self.inside.wait(PATIENCE)

    def stays_out(self) -> bool:
        return not self.inside.wait(A_MOMENT)

    def end(self) -> None:
        self.leave.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


Enter = Callable[..., Batch]


@pytest.fixture
def enter() -> Enter:
    gate = BatchGate()
    return lambda *, exclusive=False: Batch(gate, exclusive=exclusive)


def test_an_exclusive_batch_waits_for_the_others_and_keeps_new_ones_out(enter: Enter) -> None:
    one, two = enter(), enter()
    assert one.is_inside()
    assert two.is_inside(), "shared batches run beside each other"
    alone = enter(exclusive=True)
    assert alone.stays_out()
    late = enter()
    one.end()
    assert alone.stays_out()
    assert late.stays_out(), "or the exclusive one would wait for ever"
    two.end()
    assert alone.is_inside()
    assert late.stays_out()
    alone.end()
    assert late.is_inside()
    late.end()


def test_exclusive_batches_run_one_after_the_other(enter: Enter) -> None:
    first = enter(exclusive=True)
    assert first.is_inside()
    second = enter(exclusive=True)
    assert second.stays_out()
    first.end()
    assert second.is_inside()
    second.end()
    shared = enter()
    assert shared.is_inside()
    shared.end()


def test_a_batch_that_fails_inside_leaves_the_gate() -> None:
    gate = BatchGate()
    for exclusive in (True, False):
        with pytest.raises(RuntimeError), gate.enter(exclusive=exclusive):
            raise RuntimeError
    after = Batch(gate, exclusive=True)
    assert after.is_inside()
    after.end()
