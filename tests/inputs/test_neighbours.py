"""Nasty files through a whole fleet: each settles with its code, and neither the worker nor a job beside it notices."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import expected
import pytest
from expected import Expected
from fleet_builders import check_record, job, results, sql, tenant_id, wait_for
from images import encoded, noise, pixel_hash
from made import MADE, NARROW
from road import told

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.store import jobs

pytestmark = pytest.mark.timeout(900)
PATIENCE = 800.0
NEIGHBOURS = 100
SOME_PAGES = {"5000.pdf": "1,2500,5000"}
# What needs a memory as narrow as a test's own worker has it, would take minutes here.
FILES = {
    (kind, name): made for kind, files in MADE.items() for name, made in files.items() if made.given != NARROW
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    services = ("producer", "worker-1")
    with Fleet(tmp_path_factory.mktemp("fleet"), engine="null", services=services) as fleet:
        yield fleet


@pytest.fixture
def nobody_noticed(fleet: Fleet, record: Database, bucket: Blobs) -> Callable[[UUID], None]:
    """Waits for a job's end; then the job that ran beside it has to be whole, and the worker the one that it was."""
    pids = fleet.pids
    pages = {f"plain/{n}.png": encoded(noise(n)) for n in range(NEIGHBOURS)}
    for key, data in pages.items():
        bucket.put("ocr", key, data, "image/png")

    def check(nasty: UUID) -> None:
        beside = submit(record, [{"key": key} for key in pages])
        for job_id in (nasty, beside):
            wait_for(lambda job_id=job_id: job(record, job_id).finished_at, PATIENCE)
            check_record(record, job_id)
        assert {line["key"]: line["text"] for line in results(record, beside)} == {
            key: pixel_hash(data) for key, data in pages.items()
        }
        assert job(record, beside).started_at < job(record, nasty).finished_at
        assert fleet.pids == pids
        lost = "SELECT count(*) FROM pages WHERE losses > 0 OR redispatches > 0"
        assert sql(record, lost)[0][0] == 0
        assert sql(record, "SELECT count(*) FROM workers")[0][0] == 1

    return check


def submit(database: Database, objects: list[dict[str, Any]]) -> UUID:
    job_id = uuid4()
    given = {"type": "objects", "objects": [{"bucket": "ocr", **each} for each in objects]}
    with database.transaction() as session:
        jobs.create(session, jobs.NewJob(job_id, tenant_id(session), "text", given))
    return job_id


def ends(database: Database, job_id: UUID) -> dict[str, Expected]:
    """What became of each object of a job that has ended."""
    codes: dict[str, dict[int, str]] = {}
    for line in results(database, job_id):
        code = line["error"]["code"] if "error" in line else "ok"
        codes.setdefault(line["key"], {})[line["page"] or 1] = code
    return {key: Expected(told(pages), len(pages)) for key, pages in codes.items()}


def test_every_file_of_the_corpus_settles_with_its_code(
    record: Database, bucket: Blobs, corpus: Path, nobody_noticed: Callable[[UUID], None]
) -> None:
    for path in (corpus / "nasty").iterdir():
        bucket.put("ocr", f"nasty/{path.name}", path, "application/octet-stream")
    wanted = {f"nasty/{name}": end for name, end in expected.of_corpus().items()}
    job_id = submit(record, [{"key": key} for key in wanted])
    nobody_noticed(job_id)
    found = ends(record, job_id)
    assert {key: end for key, end in found.items() if end != wanted[key]} == {}
    assert found.keys() == wanted.keys()


def test_every_file_made_here_settles_with_its_code(
    record: Database, bucket: Blobs, nobody_noticed: Callable[[UUID], None]
) -> None:
    wanted: dict[str, Expected] = {}
    objects: list[dict[str, Any]] = []
    for (kind, name), made in FILES.items():
        key = f"made/{kind}/{name}"
        bucket.put("ocr", key, made.make(), "application/octet-stream")
        # The record takes no NUL and no half of a surrogate pair.
        options = {"password": made.password.split("\0")[0]} if made.password else {}
        some = SOME_PAGES.get(name)
        objects.append({"key": key, "options": options | ({"pages": some} if some else {})})
        wanted[key] = Expected(made.expected, some.count(",") + 1 if some else made.pages)
    job_id = submit(record, objects)
    nobody_noticed(job_id)
    found = ends(record, job_id)
    assert {key: end for key, end in found.items() if end != wanted[key]} == {}
    assert found.keys() == wanted.keys()
