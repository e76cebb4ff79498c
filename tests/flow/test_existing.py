"""`output.on_existing`: what has a result in the output bucket already is left out, refused, or read again."""

from collections.abc import Callable, Iterable, Iterator
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from fleet_builders import check_record, job, pages, results, sql, tenant_id

from ocrfleet.blobs import Blobs, NullBlobs
from ocrfleet.db import Database
from ocrfleet.errors import InputAccessDenied, InputNotFound, StorageUnavailable
from ocrfleet.rights import Rights
from ocrfleet.s3 import BlobInfo
from ocrfleet.settings import Settings
from ocrfleet.store import jobs
from ocrfleet.store.expansion import NewItem
from ocrfleet.store.jobs import NewJob
from producer.existing import LISTED, THREADS, Existing
from producer.expand import Expander

KEYS = [f"{n}.png" for n in range(6)]
ANY = Rights("ocr", None)


@pytest.fixture
def place(store: Blobs) -> str:
    """A prefix of the bucket, with a result for every other key."""
    place = f"existing-{uuid4().hex}/"
    for key in KEYS[::2]:
        store.put("ocr", f"{place}results/{place}{key}.json", b"{}", "application/json")
    for key in KEYS:
        store.put("ocr", f"{place}{key}", b"x", "image/png")
    return place


@pytest.fixture
def expander(database: Database, store: Blobs) -> Iterator[Expander]:
    one = Expander(Settings(expand_chunk=4), database, store)
    yield one
    one.close()


@pytest.fixture(params=["prefix", "objects"])
def submit(request: pytest.FixtureRequest, database: Database, place: str) -> Callable[..., Any]:
    def submit(**output: Any) -> Any:  # noqa: ANN401
        given: dict[str, Any] = {
            "type": "prefix",
            "bucket": "ocr",
            "prefix": place,
            "exclude": ["*/results/*"],
        }
        if request.param == "objects":
            objects = [{"bucket": "ocr", "key": f"{place}{key}"} for key in KEYS]
            given = {"type": "objects", "objects": objects}
        job_id = uuid4()
        with database.transaction() as session:
            new = NewJob(
                job_id, tenant_id(session), "text", given, output={"prefix": f"{place}results/"} | output
            )
            jobs.create(session, new)
        return job_id

    return submit


def left(database: Database, job_id: Any, place: str) -> list[str]:  # noqa: ANN401
    return [page.key.removeprefix(place) for page in pages(database, job_id) if page.state == "ready"]


def test_skip_leaves_out_what_has_a_result(
    database: Database, expander: Expander, place: str, submit: Callable[..., Any]
) -> None:
    job_id = submit(per_item=True, on_existing="skip")
    expander.step()
    assert left(database, job_id, place) == KEYS[1::2]
    assert job(database, job_id).items_total == 3
    check_record(database, job_id)


def test_fail_makes_dead_letters_of_them(
    database: Database, expander: Expander, place: str, submit: Callable[..., Any]
) -> None:
    job_id = submit(per_item=True, on_existing="fail")
    expander.step()
    assert left(database, job_id, place) == KEYS[1::2]
    found = results(database, job_id)
    assert {line["key"] for line in found} == {f"{place}{key}" for key in KEYS[::2]}
    assert {line["error"]["code"] for line in found} == {"output_exists"}
    assert found[0]["error"]["key"].endswith(".png.json")
    check_record(database, job_id)


@pytest.mark.parametrize(
    "output", [{"per_item": True, "on_existing": "overwrite"}, {"per_item": False, "on_existing": "skip"}]
)
def test_all_is_read_otherwise(
    database: Database, expander: Expander, place: str, submit: Callable[..., Any], output: dict[str, Any]
) -> None:
    job_id = submit(**output)
    expander.step()
    assert left(database, job_id, place) == KEYS


class Silent(NullBlobs):
    """Lists and streams, and tells of no object."""

    def stat(self, bucket: str, key: str) -> BlobInfo:
        if key.endswith(".json"):
            raise StorageUnavailable("the store is away")
        return super().stat(bucket, key)


def test_a_store_that_does_not_say_postpones_the_expansion(database: Database) -> None:
    job_id = uuid4()
    output = {"per_item": True, "on_existing": "skip"}
    with database.transaction() as session:
        given = {"type": "objects", "objects": [{"bucket": "ocr", "key": "a.png"}]}
        jobs.create(session, NewJob(job_id, tenant_id(session), "text", given, output=output))
    expander = Expander(Settings(), database, Silent(1))
    assert expander.step()
    expander.close()
    assert (job(database, job_id).items_total, job(database, job_id).state) == (0, "queued")
    assert sql(database, "SELECT 1 FROM items") == []


def test_what_cannot_be_read_anyway_is_not_asked_for() -> None:
    existing = Existing(Silent(1))
    assert existing.sift({"per_item": True, "on_existing": "skip"}, [], ANY) == []
    existing.close()


# How the store is asked

MANY = 200
SKIP = {"per_item": True, "on_existing": "skip"}


class Outputs(NullBlobs):
    """A bucket of results, listed in the order given; knows what it was asked."""

    def __init__(self, keys: Iterable[str], *, listable: bool = True, together: int = 1) -> None:
        super().__init__(0)
        self.keys, self.listable = list(keys), listable
        self.prefixes, self.listed, self.asked = list[str](), 0, list[str]()
        self._together = Barrier(together)

    def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
        assert not start_after
        if not self.listable:
            raise InputAccessDenied("not to be listed")
        self.prefixes.append(prefix)
        for key in self.keys:
            if key.startswith(prefix):
                self.listed += 1
                yield BlobInfo(bucket, key, "e", None, 2)

    def stat(self, bucket: str, key: str) -> BlobInfo:
        self.asked.append(key)
        self._together.wait(60)
        if key not in self.keys:
            raise InputNotFound(key)
        return BlobInfo(bucket, key, "e", None, 2)


def sifted(outputs: Outputs, count: int = MANY) -> list[int]:
    """Ordinals of those of so many objects that are to be read."""
    existing = Existing(outputs)
    left = existing.sift(SKIP, [NewItem(n, "ocr", f"in/{n:05}.png") for n in range(count)], ANY)
    existing.close()
    return [item.ordinal for item in left]


def result(n: int) -> str:
    return f"results/in/{n:05}.png.json"


@pytest.mark.parametrize("there", [range(0), range(0, MANY, 3), range(MANY)], ids=["none", "some", "all"])
def test_many_results_are_found_by_one_listing(there: range) -> None:
    # Not every store lists in the order of the alphabet.
    outputs = Outputs([result(n) for n in reversed(there)] + ["elsewhere/a.json"])
    assert sifted(outputs) == [n for n in range(MANY) if n not in there]
    assert outputs.asked == []
    assert outputs.prefixes == ["results/in/00"]


def test_what_a_full_listing_does_not_show_is_asked_for_many_at_a_time() -> None:
    others = [f"results/in/00{n}" for n in range(LISTED * MANY)]
    shown, hidden = [result(n) for n in range(8)], [result(n) for n in range(8, MANY, 2)]
    outputs = Outputs([*shown, *others, *hidden], together=THREADS)
    assert (MANY - len(shown)) % THREADS == 0, "each of them finds company"
    assert sifted(outputs) == list(range(9, MANY, 2))
    assert outputs.listed == LISTED * MANY
    assert sorted(outputs.asked) == [result(n) for n in range(8, MANY)]


def test_a_bucket_that_nobody_may_list_is_asked_for_each() -> None:
    outputs = Outputs([result(7)], listable=False)
    assert sifted(outputs) == [n for n in range(MANY) if n != 7]
    assert len(outputs.asked) == MANY


def test_a_few_are_asked_for_without_a_listing() -> None:
    outputs = Outputs([result(0), *(f"results/in/{n}" for n in range(1000))])
    assert sifted(outputs, 2) == [1]
    assert outputs.prefixes == []


def test_the_real_store_lists_them_too(store: Blobs) -> None:
    place = f"existing-{uuid4().hex}/a"
    names = [f"{place}{sign}{n}" for n in range(20) for sign in ("", "/", "-", "./")]
    for name in names[::3]:
        store.put("ocr", f"results/{name}.json", b"{}", "application/json")
    existing = Existing(store)
    left = existing.sift(SKIP, [NewItem(n, "ocr", name) for n, name in enumerate(names)], ANY)
    existing.close()
    assert [item.key for item in left] == [name for name in names if name not in names[::3]]
