"""Flower, as `ocrfleet up` starts it, shows the worker and its batches, and lets nobody act."""

from collections.abc import Generator
from typing import Any

import httpx
import pytest
from fleet_builders import add_job, wait_for
from sqlalchemy import text

from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.messages import TASK

PAGES = 300
QUERY = {
    "draw": 1,
    "start": 0,
    "length": 10,
    "order[0][column]": 0,
    "order[0][dir]": "asc",
    "columns[0][data]": "name",
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Generator[Fleet]:
    settings = {"OCRFLEET_NULL_READS_PIXELS": "false", "OCRFLEET_STORE_URL": "null://?objects=0"}
    folder = tmp_path_factory.mktemp("flower")
    with Fleet(
        folder, engine="null", services=("producer", "worker"), flower=True, extra=settings
    ) as running:
        yield running


@pytest.fixture
def flower(fleet: Fleet) -> Generator[httpx.Client]:
    with httpx.Client(base_url=fleet.urls["flower"], timeout=10) as client:
        yield client


def test_flower_shows_the_worker_and_each_batch_with_its_pages(fleet: Fleet, flower: httpx.Client) -> None:
    database = Database(fleet.urls["postgres"], application="test")
    job = add_job(database, PAGES)

    def done() -> bool:
        with database.transaction() as session:
            query = text("SELECT finished_at IS NOT NULL FROM jobs WHERE id = :job")
            return session.execute(query, {"job": job}).scalar_one()

    wait_for(done)
    database.close()

    def batches() -> list[dict[str, Any]]:
        rows = flower.get("/tasks/datatable", params=QUERY).raise_for_status().json()["data"]
        return [row for row in rows if row["state"] == "SUCCESS"]

    shown = wait_for(batches)
    assert {row["name"] for row in shown} == {TASK}
    assert all(row["worker"].startswith("worker@") for row in shown)
    assert "'batch':" in shown[0]["kwargs"]
    assert "'lane': 'bulk'" in shown[0]["kwargs"]
    assert "worker@" in flower.get("/workers").raise_for_status().text


def test_flower_refuses_to_act(flower: httpx.Client) -> None:
    name = flower.get("/workers").text.split("worker@")[1].split('"')[0].split("<")[0].split("'")[0]
    answer = flower.post(f"/api/worker/shutdown/worker@{name}")
    assert answer.status_code in (401, 403)
