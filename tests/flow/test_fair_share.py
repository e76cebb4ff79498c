"""The fair share on the real dispatcher: a small tenant does not wait for a large one, and weights hold over time.

Messages are worked off in the order in which they were published, as by one worker that takes them from the broker.
"""

from collections import Counter, deque
from collections.abc import Callable
from uuid import UUID

import pytest
from fake_broker import FakeBroker
from fleet_builders import add_job, add_worker, sql
from sqlalchemy import text

from ocrfleet.db import Database
from ocrfleet.messages import PageBatch
from ocrfleet.settings import Settings
from ocrfleet.states import PageState
from ocrfleet.store import pages, settle, tenants
from ocrfleet.store.settle import Settlement
from producer.dispatch import Dispatcher

SLOTS, IN_FLIGHT = 9, 64
"""Eight bulk messages of sixteen pages each."""
LARGE, SMALL = 200_000, 10


class Line:
    """The broker's queue, the dispatcher that fills it, and a worker that settles a message at a time."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._broker = FakeBroker()
        self._dispatcher = Dispatcher(Settings(), self._broker, database.transaction)  # type: ignore[arg-type]
        self._worker = add_worker(database, slots=SLOTS, in_flight=IN_FLIGHT)
        self.queue: deque[PageBatch] = deque()

    def dispatch(self) -> None:
        sql(self.database, "UPDATE workers SET heartbeat_at = now()")
        self._dispatcher.round()
        self.queue.extend(self._broker.drain())

    def settle(self) -> Counter[UUID]:
        """Work the oldest message off; how many of its pages were whose."""
        batch = self.queue.popleft()
        with self.database.transaction() as session:
            claimed = pages.claim(session, self._worker, batch.pages)
            done = [
                Settlement(p.id, p.fence, p.job_id, p.item_id, p.attempt, PageState.SUCCEEDED)
                for p in claimed
            ]
            assert len(settle.settle(session, done)) == len(batch.pages)
        return Counter(page.tenant_id for page in claimed)


@pytest.fixture
def new_tenant(database: Database) -> Callable[..., UUID]:
    def make(name: str, **members: float) -> UUID:
        with database.transaction() as session:
            return tenants.create(session, name, **members)  # type: ignore[arg-type]

    return make


def grow(database: Database, job_id: UUID, count: int) -> None:
    """Add ready pages to a job, at the pace of the database."""
    with database.transaction() as session:
        values = {"job": job_id, "count": count}
        session.execute(
            text("""INSERT INTO items (job_id, ordinal, bucket, key, state, page_count)
                    SELECT :job, n, 'ocr', 'x', 'counted', 1 FROM generate_series(1, :count) n"""), values
        )  # fmt: skip
        session.execute(
            text("""INSERT INTO pages (item_id, job_id, number)
                    SELECT id, job_id, 1 FROM items WHERE job_id = :job AND ordinal > 0"""), values
        )  # fmt: skip
        grown = "UPDATE jobs SET total = total + :count, items_total = items_total + :count WHERE id = :job"
        session.execute(text(grown), values)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE pages"))


def test_the_first_result_of_a_small_tenant_waits_for_the_window_and_one_batch_at_most(
    database: Database, new_tenant: Callable[..., UUID]
) -> None:
    small = new_tenant("small")
    large_job = add_job(database, 1)
    grow(database, large_job, LARGE - 1)
    line = Line(database)
    line.dispatch()
    window = len(line.queue)
    assert window == SLOTS - 1, "the large tenant alone fills the window"
    add_job(database, SMALL, tenant="small")
    served = 0
    while not line.settle()[small]:
        served += 1
        line.dispatch()
        assert served <= window, "no more goes first than was out already, and one batch"
    left = sql(database, "SELECT total - succeeded FROM jobs WHERE id = :job", job=large_job)[0][0]
    assert left > LARGE - 16 * (window + 2)
    for _ in range(window + 1):
        line.dispatch()
        line.settle()
    (row,) = sql(database, "SELECT state, succeeded FROM jobs WHERE tenant_id = :tenant", tenant=small)
    assert tuple(row) == ("completed", SMALL), "all of it went within two windows"


def test_the_shares_of_three_busy_tenants_are_within_a_tenth_of_their_weights(
    database: Database, new_tenant: Callable[..., UUID]
) -> None:
    weights = {new_tenant(f"w{weight}", weight=float(weight)): weight for weight in (1, 2, 4)}
    # Of one job, of many small ones, and of a few, the heaviest submitted last.
    for name, jobs in (("w1", [3000]), ("w2", [100] * 30), ("w4", [1000, 2000, 1000])):
        for count in jobs:
            add_job(database, count, tenant=name)
    line, served = Line(database), Counter[UUID]()
    line.dispatch()
    while sum(served.values()) < 2800:
        served += line.settle()
        line.dispatch()
    total = sum(served.values())
    for tenant, weight in weights.items():
        share, due = served[tenant] / total, weight / sum(weights.values())
        assert abs(share - due) <= 0.1 * due, (weight, share, due)


def test_a_tenant_over_its_quota_is_left_out_and_nobody_waits_for_it(
    database: Database, new_tenant: Callable[..., UUID]
) -> None:
    over = new_tenant("over", weight=1000.0)
    with database.transaction() as session:
        tenants.change(session, over, {"pages_per_day": 40})
    line = Line(database)
    add_job(database, 500, tenant="over")
    other_job = add_job(database, 100)
    served = Counter[UUID]()
    line.dispatch()
    while line.queue:
        served += line.settle()
        line.dispatch()
    assert served[over] == 40, "to the page, in whatever number of rounds"
    (row,) = sql(database, "SELECT state FROM jobs WHERE id = :job", job=other_job)
    assert row.state == "completed"
    sql(database, "UPDATE usage SET day = day - 1")
    later = Line(database)
    later.dispatch()
    assert sum(len(batch.pages) for batch in later.queue) == 40, "the next day brings as much"
