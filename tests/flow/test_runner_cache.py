"""The cache of results from job to job: what was read once is not read again, and nobody gets what is not his."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from fake_broker import FakeBroker
from fleet_builders import (
    PATIENCE,
    add_job,
    again_now,
    check_record,
    page_states,
    results,
    send,
    sql,
    wait_for,
)
from images import encoded, noise, pixel_hash
from odd_engines import PlainEngine, SeeingEngine, SlowEngine

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.settings import Settings
from ocrfleet.store.expansion import NewItem
from producer.sweep import Sweeper
from worker.engines.base import EngineInfo, PageRequest, PageResult, Region
from worker.engines.null import NullEngine
from worker.runner import Runner

Start = Callable[..., Runner]
Put = Callable[[bytes], str]


class ReadingEngine(NullEngine):
    """The null engine, that counts and has a region and a language to tell."""

    def __init__(self, warnings: tuple[str, ...] = (), revision: str = "1") -> None:
        super().__init__(Settings())
        self.read = 0
        self._warnings = warnings
        self._revision = revision

    async def start(self) -> EngineInfo:
        return EngineInfo("null", "null", self._revision, ("text",), 8)

    async def recognize(self, request: PageRequest) -> PageResult:
        self.read += 1
        text = (await super().recognize(request)).text
        region = Region("文字 \u2028 🙂", (1, 2, 3, 4), 0.5)
        return PageResult(
            text, regions=[region], language="zh", usage={"output_tokens": 3}, warnings=self._warnings
        )


class SlowSeeingEngine(SlowEngine):
    """Holds its pages until `release`, and has them loaded."""

    reads_pixels = True


@pytest.fixture
def put(store: Blobs) -> Put:
    """Puts an object under a key of its own."""

    def put(data: bytes) -> str:
        key = f"cache/{uuid4().hex}.jpg"
        store.put("ocr", key, data, "application/octet-stream")
        return key

    return put


def read(database: Database, runner: Runner, *keys: str, **job: Any) -> tuple[UUID, list[dict[str, Any]]]:
    """A job of these objects, led to its end: its result lines in the order of the keys."""
    job_id = add_job(database, [NewItem(n, "ocr", key) for n, key in enumerate(keys)], **job)
    while "ready" in page_states(database, job_id):
        runner.run(send(database, job_id))
        again_now(database, job_id)
    check_record(database, job_id)
    lines = results(database, job_id)
    return job_id, sorted(lines, key=lambda line: (keys.index(line["key"]), line["page"]))


def kept(database: Database) -> int:
    return sql(database, "SELECT count(*) FROM results_cache")[0][0]


def test_an_identical_page_is_not_read_again(
    database: Database, start_runner: Start, store: Blobs, put: Put
) -> None:
    engine = ReadingEngine()
    runner = start_runner(engine, store=store)
    data, other = encoded(noise(1)), encoded(noise(2))
    first, (paid,) = read(database, runner, put(data))
    _, (hit, miss) = read(database, runner, put(data), put(other), options={"password": "x"})
    assert (paid["cache"], hit["cache"], miss["cache"], engine.read) == ("miss", "hit", "miss", 2)
    assert (hit["text"], miss["text"]) == (pixel_hash(data), pixel_hash(other))
    own = {"seq", "job_id", "item_id", "key", "cache", "timings_ms"}
    assert {name: hit[name] for name in hit.keys() - own} == {name: paid[name] for name in paid.keys() - own}
    assert (hit["state"], hit["attempt"], hit["regions"][0]["text"]) == ("succeeded", 1, "文字 \u2028 🙂")
    assert hit["image"]["width"] == 120
    assert hit["timings_ms"].keys() == {"queue", "wait", "fetch", "cache"}, "neither decoded nor read"
    assert {row.job_id for row in sql(database, "SELECT job_id FROM results_cache")} > {first}
    assert kept(database) == 2, "a copy is not kept once more"


def test_a_page_that_is_known_does_not_wait_for_the_engine(
    database: Database, start_runner: Start, store: Blobs, put: Put, threads: ThreadPoolExecutor
) -> None:
    known = encoded(noise(1))
    engine = SlowSeeingEngine(in_flight=1)
    runner = start_runner(engine, store=store)
    busy = threads.submit(read, database, runner, put(known))
    wait_for(lambda: engine.now == 1)
    engine.release()
    busy.result(PATIENCE)
    engine.hold()
    busy = threads.submit(read, database, runner, put(encoded(noise(2))))
    wait_for(lambda: engine.now == 1)
    _, (hit,) = read(database, runner, put(known))
    assert (hit["cache"], engine.now) == ("hit", 1)
    assert runner.succeeded == 1, "it says nothing of the engine"
    engine.release()
    busy.result(PATIENCE)


@pytest.mark.parametrize(
    "job",
    [{"tenant": "other"}, {"options": {"cache": False}}, {"options": {"prompt_language": "en"}}],
    ids=str,
)
def test_other_tenants_and_jobs_that_ask_otherwise_have_their_pages_read(
    database: Database, start_runner: Start, store: Blobs, put: Put, job: dict[str, Any]
) -> None:
    sql(database, "INSERT INTO tenants (name) VALUES ('other')")
    engine = ReadingEngine()
    runner = start_runner(engine, store=store)
    data = encoded(noise(1))
    read(database, runner, put(data))
    _, (line,) = read(database, runner, put(data), **job)
    assert (line["cache"], engine.read) == ("miss", 2)


def test_a_job_that_refuses_the_cache_leaves_nothing_in_it(
    database: Database, start_runner: Start, store: Blobs, put: Put
) -> None:
    runner = start_runner(ReadingEngine(), store=store)
    read(database, runner, put(encoded(noise(1))), options={"cache": False})
    assert kept(database) == 0


@pytest.mark.parametrize(
    ("engine", "settings"),
    [
        (ReadingEngine(warnings=("low_confidence",)), {}),
        (ReadingEngine(revision="unknown"), {}),
        (ReadingEngine(), {"result_cache": False}),
    ],
    ids=["doubt", "unknown revision", "setting"],
)
def test_these_are_read_every_time(
    database: Database,
    start_runner: Start,
    store: Blobs,
    put: Put,
    engine: ReadingEngine,
    settings: dict[str, Any],
) -> None:
    runner = start_runner(engine, store=store, **settings)
    key = put(encoded(noise(1)))
    lines = [line for _ in range(2) for line in read(database, runner, key)[1]]
    assert ([line["cache"] for line in lines], engine.read, kept(database)) == (["miss"] * 2, 2, 0)


def test_an_engine_that_needs_no_pixels_has_no_cache(database: Database, start_runner: Start) -> None:
    engine = PlainEngine()
    runner = start_runner(engine)
    for _ in range(2):
        read(database, runner, "a.png")
    assert (len(engine.begun), kept(database)) == (2, 0)


def test_a_result_that_took_a_second_attempt_is_not_kept(
    database: Database, start_runner: Start, store: Blobs, put: Put
) -> None:
    engine = SeeingEngine()
    runner = start_runner(engine, store=store)
    key = put(encoded(noise(1)))
    job_id = add_job(database, [NewItem(0, "ocr", key)], options={"fault": "engine_crashed"})
    runner.run(send(database, job_id))
    sql(database, "UPDATE jobs SET options = '{}'")
    again_now(database, job_id)
    runner.run(send(database, job_id))
    (line,) = results(database, job_id)
    assert (line["state"], line["attempt"], kept(database)) == ("succeeded", 2, 0)


def test_a_redriven_page_is_read_and_its_result_not_kept(
    database: Database, start_runner: Start, store: Blobs, put: Put
) -> None:
    engine = ReadingEngine()
    runner = start_runner(engine, store=store)
    known, fresh = encoded(noise(1)), encoded(noise(2))
    read(database, runner, put(known))
    job_id = add_job(database, [NewItem(n, "ocr", put(data)) for n, data in enumerate((known, fresh))])
    sql(database, "UPDATE pages SET redrive_id = 1 WHERE job_id = :job", job=job_id)
    runner.run(send(database, job_id))
    assert [line["cache"] for line in results(database, job_id)] == ["miss", "miss"]
    assert (engine.read, kept(database)) == (3, 1)


def test_two_that_ask_the_same_at_once_are_both_read(
    database: Database, start_runner: Start, store: Blobs, put: Put, threads: ThreadPoolExecutor
) -> None:
    engine = SlowSeeingEngine()
    runner = start_runner(engine, store=store)
    data = encoded(noise(1))
    jobs = [threads.submit(read, database, runner, put(data), put(data)) for _ in range(2)]
    wait_for(lambda: engine.now == 4)
    engine.release()
    lines = [line for job in jobs for line in job.result(PATIENCE)[1]]
    assert [line["cache"] for line in lines] == ["miss"] * 4
    assert kept(database) == 1


def test_the_pages_of_a_document_in_disguise_come_with_a_first_one_that_is_known(
    database: Database, start_runner: Start, store: Blobs, put: Put
) -> None:
    engine = ReadingEngine()
    runner = start_runner(engine, store=store)
    data = encoded(noise(1), "PDF", noise(2), noise(3))
    _, paid = read(database, runner, put(data))
    _, hits = read(database, runner, put(data))
    assert [line["page"] for line in hits] == [1, 2, 3]
    assert [line["text"] for line in hits] == [line["text"] for line in paid]
    assert ({line["cache"] for line in hits}, engine.read) == ({"hit"}, 3)


def test_what_was_kept_for_its_days_is_swept_away(
    database: Database, start_runner: Start, store: Blobs, put: Put
) -> None:
    runner = start_runner(ReadingEngine(), store=store)
    read(database, runner, put(encoded(noise(1))), put(encoded(noise(2))))
    older = """
        UPDATE results_cache SET created_at = now() - interval '3 days'
        WHERE key = (SELECT key FROM results_cache ORDER BY key LIMIT 1)"""
    sql(database, older)
    for days, left in ((4.0, 2), (2.0, 1)):
        settings = Settings(result_cache_days=days)
        Sweeper(settings, FakeBroker(), database.transaction).sweep()  # type: ignore[arg-type]
        assert kept(database) == left
