"""How much is dispatched and to whom: the window, the size of a batch, and the fair share."""

from collections.abc import Sequence
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ocrfleet.settings import Settings
from ocrfleet.store.dispatch import Capacity, Demand, Load
from producer import plan

SETTINGS = Settings()


def fleet(workers: int = 2, slots: int = 16, in_flight: int = 64, rate: float = 0.0) -> Capacity:
    return Capacity(workers, slots, in_flight, rate)


def test_the_window_is_slots_less_live_workers_less_messages() -> None:
    assert plan.bulk_window(fleet(workers=2, slots=16), Load()) == 14
    assert plan.bulk_window(fleet(workers=2, slots=16), Load(messages=10, pages=900)) == 4


def test_the_window_is_shut_when_more_is_out_than_the_workers_left_can_hold() -> None:
    assert plan.bulk_window(fleet(workers=1, slots=8), Load(messages=14)) == 0


def test_interactive_pages_have_a_window_of_their_own_per_worker() -> None:
    settings = Settings(interactive_window=3)
    assert plan.interactive_window(fleet(workers=2), Load(messages=4, pages=4), settings) == 2
    assert plan.interactive_window(fleet(workers=2), Load(messages=9, pages=9), settings) == 0


def test_a_batch_is_about_five_seconds_of_one_engines_measured_work() -> None:
    # 20 pages/s together is 10 each.
    assert plan.batch_pages(fleet(workers=2, in_flight=2, rate=20.0), SETTINGS) == 50


def test_a_batch_of_an_engine_not_measured_yet_fills_what_it_wants_twice() -> None:
    assert plan.batch_pages(fleet(workers=1, slots=8, in_flight=28, rate=0.0), SETTINGS) == 8


def test_without_workers_a_batch_is_one_page() -> None:
    assert plan.batch_pages(Capacity(0, 0, 0, 0.0), SETTINGS) == 1


@settings(deadline=None)
@given(st.integers(1, 64), st.integers(2, 32), st.integers(1, 512), st.floats(0, 1e6))
def test_batches_are_bounded_and_fill_the_engines_twice_while_they_may(
    workers: int, slots: int, in_flight: int, rate: float
) -> None:
    capacity = Capacity(workers, workers * slots, workers * in_flight, rate)
    batch = plan.batch_pages(capacity, SETTINGS)
    assert 1 <= batch <= 128
    window = plan.bulk_window(capacity, Load())
    assert batch == 128 or window * batch >= 2 * capacity.in_flight


@settings(deadline=None)
@given(
    st.lists(st.integers(), unique=True, max_size=300),
    st.integers(0, 20),
    st.integers(1, 40),
    st.integers(1, 8),
)
def test_a_split_keeps_order_loses_nothing_within_the_window_and_is_even(
    pages: list[int], messages: int, batch: int, workers: int
) -> None:
    cut = plan.split(pages, messages=messages, batch=batch, workers=workers)
    assert [page for part in cut for page in part] == pages[: messages * batch]
    sizes = [len(part) for part in cut]
    assert len(cut) <= messages
    assert not sizes or (max(sizes) <= batch and max(sizes) - min(sizes) <= 1 and min(sizes) > 0)
    if messages >= workers and len(pages) >= workers:
        assert len(cut) >= workers, "a few pages keep every worker busy"


class Backlog:
    """Tenants with ready pages: what the record would hold."""

    def __init__(self, weights: Sequence[float], pages: Sequence[int]) -> None:
        self.left = {UUID(int=n): count for n, count in enumerate(pages, 1)}
        self.weights = {UUID(int=n): weight for n, weight in enumerate(weights, 1)}
        self.served = dict.fromkeys(self.left, 0)

    def demands(self) -> list[Demand]:
        # A tenant's one job bears the tenant's id.
        return [
            Demand(tenant, self.weights[tenant], [tenant]) for tenant, pages in self.left.items() if pages
        ]

    def take(self, demand: Demand, limit: int) -> list[UUID]:
        tenant = demand.tenant_id
        count = min(limit, self.left[tenant])
        self.left[tenant] -= count
        self.served[tenant] += count
        return [tenant] * count


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=1, max_size=6),
    st.lists(st.integers(1, 200), min_size=5, max_size=60),
)
def test_busy_tenants_are_served_by_their_weights(weights: list[float], rounds: list[int]) -> None:
    backlog, share = Backlog(weights, [10**6] * len(weights)), plan.FairShare()
    for pages in rounds:
        assert len(share.serve(backlog.demands(), pages, backlog.take)) == pages
    total = sum(rounds)
    for tenant, served in backlog.served.items():
        due = total * backlog.weights[tenant] / sum(weights)
        # Nobody is ever further from what is due than the one round that is being served, nor ahead by much.
        assert abs(served - due) <= max(rounds) + len(weights)


def test_the_share_holds_over_many_rounds_of_a_single_page() -> None:
    backlog, share = Backlog([1.0, 3.0], [10_000, 10_000]), plan.FairShare()
    for _ in range(4000):
        share.serve(backlog.demands(), 1, backlog.take)
    small, large = backlog.served.values()
    assert small + large == 4000
    assert abs(small - 1000) <= 2


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 300))
def test_no_slot_stays_empty_while_somebody_has_work(waiting: list[int], pages: int) -> None:
    backlog = Backlog([1.0] * len(waiting), waiting)
    taken = plan.FairShare().serve(backlog.demands(), pages, backlog.take)
    assert len(taken) == min(pages, sum(waiting))


def test_a_small_tenant_is_not_starved_by_large_ones() -> None:
    backlog, share = Backlog([1.0, 1.0, 1.0], [10**6, 10**6, 5]), plan.FairShare()
    rounds = 0
    while backlog.left[UUID(int=3)]:
        share.serve(backlog.demands(), 4, backlog.take)
        rounds += 1
        assert rounds <= 5, "a third of 20 pages is more than its five"


def test_what_a_tenant_with_little_work_does_not_use_is_not_saved_up() -> None:
    backlog, share = Backlog([1.0, 1.0], [0, 10**6]), plan.FairShare()
    trickle = UUID(int=1)
    for _ in range(50):
        backlog.left[trickle] = 1
        share.serve(backlog.demands(), 10, backlog.take)
    assert backlog.served[trickle] == 50
    backlog.left[trickle] = 10**6
    share.serve(backlog.demands(), 10, backlog.take)
    assert backlog.served[trickle] - 50 <= 6, "about its half, and nobody is shut out"
