"""Expansion over the real record: chunks under a moving cursor, and what happens when it is disturbed."""

import gzip
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from uuid import UUID, uuid4

import pytest
from fleet_builders import check_record, job, pages, results, sql, submit_manifest, tenant_id, wait_for

from ocrfleet.blobs import Blobs, NullBlobs
from ocrfleet.db import Database
from ocrfleet.errors import InputAccessDenied, StorageUnavailable
from ocrfleet.s3 import Stream
from ocrfleet.settings import Settings
from ocrfleet.store import control
from producer.expand import TURN_SECONDS, Expander

Start = Callable[[Blobs], Expander]


class BrokenBlobs(NullBlobs):
    """A manifest whose stream breaks after so many bytes, as often as it is told to."""

    def __init__(self, objects: int, error: Exception, *, after: int, times: int = 1) -> None:
        super().__init__(objects)
        self._error, self._after, self.times = error, after, times

    @contextmanager
    def stream(self, bucket: str, key: str, *, offset: int = 0, etag: str | None = None) -> Generator[Stream]:
        with super().stream(bucket, key, offset=offset, etag=etag) as stream:
            yield Stream(stream.info, self._break(stream.chunks))

    def _break(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        left = self._after
        for chunk in chunks:
            if self.times and len(chunk) > left:
                self.times -= 1
                yield chunk[:left]
                raise self._error
            left -= len(chunk)
            yield chunk


class MeddlingBlobs(NullBlobs):
    """Lets something happen in the middle of a stream."""

    def __init__(self, objects: int, meddle: Callable[[], object]) -> None:
        super().__init__(objects)
        self._meddle = meddle

    @contextmanager
    def stream(self, bucket: str, key: str, *, offset: int = 0, etag: str | None = None) -> Generator[Stream]:
        with super().stream(bucket, key, offset=offset, etag=etag) as stream:
            yield Stream(stream.info, self._meddled(b"".join(stream.chunks)))

    def _meddled(self, data: bytes) -> Iterator[bytes]:
        half = len(data) // 2
        yield data[:half]
        self._meddle()
        yield data[half:]


@pytest.fixture
def expander(database: Database) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(blobs: Blobs) -> Expander:
            one = Expander(Settings(expand_chunk=10), database, blobs)
            stack.callback(one.close)
            return one

        yield start


def again_now(database: Database) -> None:
    sql(database, "UPDATE jobs SET expansion_leased_until = now()")


def assert_expanded_once(database: Database, job_id: UUID, count: int) -> None:
    done = job(database, job_id)
    assert (done.total, done.items_total) == (count, count)
    assert done.expanded_at is not None
    rows = pages(database, job_id)
    assert [row.ordinal for row in rows] == list(range(count))
    assert [row.key for row in rows] == [f"{n:012}.png" for n in range(count)]
    check_record(database, job_id)


def test_a_manifest_becomes_items_with_their_pages(database: Database, expander: Start) -> None:
    job_id = submit_manifest(database)
    one = expander(NullBlobs(95))
    assert one.step()
    assert_expanded_once(database, job_id, 95)
    assert not one.step(), "nothing is left to expand"


def test_a_store_that_breaks_off_delays_the_rest_and_repeats_nothing(
    database: Database, expander: Start
) -> None:
    job_id = submit_manifest(database)
    blobs = BrokenBlobs(95, StorageUnavailable("the store is away"), after=40 * NullBlobs.width + 5)
    one = expander(blobs)
    one.step()
    written = job(database, job_id)
    assert (written.items_total, written.state) == (40, "queued")
    assert written.expanded_at is None
    assert not one.step(), "not at once"
    again_now(database)
    one.step()
    assert_expanded_once(database, job_id, 95)


def test_a_producer_that_died_is_followed_by_another_from_its_cursor(
    database: Database, expander: Start
) -> None:
    class Killed(BaseException):
        """Passes everything, as a kill would."""

    job_id = submit_manifest(database)
    dying = expander(BrokenBlobs(95, Killed(), after=30 * NullBlobs.width))  # type: ignore[arg-type]
    with pytest.raises(Killed):
        dying.step()
    other = expander(NullBlobs(95))
    assert not other.step(), "its lease runs on"
    again_now(database)
    other.step()
    assert_expanded_once(database, job_id, 95)


def test_of_two_that_expand_the_same_job_one_gives_way_and_nothing_is_doubled(
    database: Database, expander: Start
) -> None:
    def take_over() -> None:
        # The lease ran out while this one was slow; the chunk that is being written renews it once more.
        wait_for(lambda: again_now(database) or other.step())

    job_id = submit_manifest(database)
    other = expander(NullBlobs(95))
    slow = expander(MeddlingBlobs(95, take_over))
    slow.step()
    assert_expanded_once(database, job_id, 95)


def test_a_job_canceled_in_the_middle_grows_no_further(database: Database, expander: Start) -> None:
    def cancel() -> None:
        with database.transaction() as session:
            control.cancel(session, tenant_id(session), job_id)

    job_id = submit_manifest(database)
    expander(MeddlingBlobs(95, cancel)).step()
    done = job(database, job_id)
    assert done.state == "canceled"
    assert done.canceled == done.total <= 40
    check_record(database, job_id)


def test_an_input_that_may_not_be_read_fails_the_job_with_its_code(
    database: Database, expander: Start
) -> None:
    job_id = submit_manifest(database)
    expander(BrokenBlobs(95, InputAccessDenied("no"), after=40 * NullBlobs.width)).step()
    done = job(database, job_id)
    assert (done.state, done.error["code"], done.canceled, done.total) == (
        "failed",
        "input_access_denied",
        40,
        40,
    )
    check_record(database, job_id)


def test_a_bug_is_tried_again_and_then_fails_its_own_job_only(database: Database, expander: Start) -> None:
    job_id = submit_manifest(database)
    one = expander(BrokenBlobs(95, RuntimeError("a bug"), after=0, times=99))
    for _ in range(5):
        assert job(database, job_id).state == "queued"
        again_now(database)
        one.step()
    done = job(database, job_id)
    assert (done.state, done.error["code"]) == ("failed", "internal")
    other = submit_manifest(database)
    expander(NullBlobs(5)).step()
    assert_expanded_once(database, other, 5)


def test_a_long_expansion_gives_the_next_job_its_turn(database: Database, expander: Start) -> None:
    large, small = submit_manifest(database), submit_manifest(database)
    pause = threading.Event()
    slow = expander(MeddlingBlobs(25, lambda: pause.wait(TURN_SECONDS)))
    slow.step()
    written = job(database, large).items_total
    assert 10 <= written < 25, "its turn is over"
    one = expander(NullBlobs(25))
    one.step()
    assert job(database, small).items_total == 25
    assert job(database, large).items_total == written
    one.step()
    for job_id in (large, small):
        assert_expanded_once(database, job_id, 25)


def test_malformed_lines_are_dead_from_the_start_and_the_rest_is_not(
    database: Database, expander: Start, store: Blobs
) -> None:
    lines = [b'{"key":"%d.png"}' % n for n in range(25)]
    lines[3], lines[17] = b"no JSON", b'{"key":"a\\u0000.png"}'
    key = f"manifests/{uuid4().hex}.jsonl"
    store.put("ocr", key, b"\n".join(lines), "application/jsonl")
    job_id = submit_manifest(database, key)
    expander(store).step()
    found = results(database, job_id)
    assert [(line["key"], line["page"], line["error"]["line"]) for line in found] == [
        ("line 4", None, 4),
        ("line 18", None, 18),
    ]
    done = job(database, job_id)
    assert (done.total, done.dead, done.state) == (25, 2, "queued")
    check_record(database, job_id)


class PackedBlobs(NullBlobs):
    """A gzip'd manifest, a byte at a time; something happens before it, and when so many lines have been sent."""

    def __init__(
        self, objects: int, after: int, first: Callable[[], object], then: Callable[[], object]
    ) -> None:
        super().__init__(objects)
        self._after, self._first, self._then = after * self.width, first, then

    @contextmanager
    def stream(self, bucket: str, key: str, *, offset: int = 0, etag: str | None = None) -> Generator[Stream]:
        assert offset == 0, "gzip data have to be read from their first byte"
        with super().stream(bucket, key, etag=etag) as stream:
            yield Stream(stream.info, self._packed(b"".join(stream.chunks)))

    def _packed(self, data: bytes) -> Iterator[bytes]:
        self._first()
        packed = gzip.compress(data[: self._after])
        yield from (packed[n : n + 1] for n in range(len(packed)))
        self._then()
        yield gzip.compress(data[self._after :])


def nothing() -> None:
    pass


def break_off() -> None:
    raise StorageUnavailable("the store is away")


def test_a_turn_does_not_begin_before_all_is_skipped_that_was_read(
    database: Database, expander: Start
) -> None:
    job_id = submit_manifest(database)
    pause = threading.Event()
    expander(PackedBlobs(95, 40, nothing, break_off)).step()
    assert job(database, job_id).items_total == 40
    again_now(database)
    expander(PackedBlobs(95, 40, nothing, lambda: pause.wait(TURN_SECONDS))).step()
    assert_expanded_once(database, job_id, 95)


def test_what_is_skipped_makes_no_fault_good(database: Database, expander: Start) -> None:
    def fault() -> None:
        raise RuntimeError("a bug")

    job_id = submit_manifest(database)
    expander(PackedBlobs(95, 40, nothing, break_off)).step()
    one = expander(PackedBlobs(95, 40, nothing, fault))
    for _ in range(5):
        assert job(database, job_id).state == "queued"
        again_now(database)
        one.step()
    assert job(database, job_id).error["code"] == "internal"


def test_a_lease_is_renewed_while_what_was_read_is_skipped(database: Database, expander: Start) -> None:
    def age() -> None:
        sql(database, "UPDATE jobs SET expansion_leased_until = now() + interval '2 hours'")

    def renewed() -> None:
        aged = "SELECT 1 FROM jobs WHERE expansion_leased_until > now() + interval '1 hour'"
        wait_for(lambda: not sql(database, aged))

    job_id = submit_manifest(database)
    expander(PackedBlobs(95, 40, nothing, break_off)).step()
    again_now(database)
    expander(PackedBlobs(95, 40, age, renewed)).step()
    assert_expanded_once(database, job_id, 95)
