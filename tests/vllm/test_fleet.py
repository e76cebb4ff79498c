"""A whole fleet around real vLLM: from the API to Postgres, and through the deaths of its engine and its worker."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psutil
import pytest
from fleet_builders import check_record, is_gone, job, sql, wait_for
from images import encoded
from PIL import Image, ImageDraw, ImageFont
from pydantic import SecretStr

from ocrfleet import blobs
from ocrfleet.client import Client
from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.settings import Settings

PAGES = 120
PATIENCE = 300.0
OPTIONS = {"parameters": {"repetition_penalty": 1.5, "max_tokens": 300}}
"""With these the tiny model's text ends by itself."""


@pytest.fixture(scope="module")
def fleet(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    members = ("model", "model_dtype", "max_pixels", "max_model_len", "max_sequences")
    given = {f"OCRFLEET_{name.upper()}": str(getattr(settings, name)) for name in members}
    folder = tmp_path_factory.mktemp("fleet")
    folder.chmod(0o711)
    with Fleet(folder, engine="vllm", extra=given) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def client(fleet: Fleet) -> Iterator[Client]:
    with Client(fleet.urls["api"], fleet.environment["OCRFLEET_API_KEY"]) as client:
        yield client


@pytest.fixture(scope="module")
def keys(fleet: Fleet) -> list[str]:
    """The keys of that many pages, of different sizes, in the bucket."""
    secret = SecretStr(fleet.environment["OCRFLEET_STORE_SECRET_KEY"])
    bucket = blobs.connect(Settings(store_url=fleet.urls["s3"], store_secret_key=secret))
    keys = [f"pages/{number:04}.png" for number in range(PAGES)]
    for number, key in enumerate(keys):
        bucket.put("ocr", key, encoded(drawn(number)), "image/png")
    return keys


def drawn(number: int) -> Image.Image:
    image = Image.new("RGB", (400 + 8 * (number % 13), 200 + 8 * (number % 7)), "white")
    pen = ImageDraw.Draw(image)
    pen.text((20, 40), f"page {number * 7919 % 100_000}", "black", ImageFont.load_default(40))
    pen.rectangle((20, 110, 40 + 3 * number % 300, 150), fill=(number % 256, 90, 160))
    return image


def submit(client: Client, keys: list[str], **members: Any) -> str:
    objects = [{"bucket": "ocr", "key": key} for key in keys]
    return client.create_job({"type": "objects", "objects": objects}, **members)["id"]


def finished(client: Client, job_id: str) -> dict[str, dict[str, Any]]:
    """The results by key, of a job that has ended; each key once."""
    lines: list[dict[str, Any]] = list(client.results(job_id, follow=True))  # type: ignore[arg-type]
    found = {line["key"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def test_pages_go_from_the_api_to_the_record_as_the_engine_reads_them(
    client: Client, keys: list[str], record: Database
) -> None:
    job_id = submit(client, keys[:24], options=OPTIONS)
    found = finished(client, job_id)
    assert sorted(found) == keys[:24]
    assert {line["state"] for line in found.values()} == {"succeeded"}
    assert len({line["text"] for line in found.values()}) > 20, "every page has its own text"
    for line in found.values():
        assert (line["engine"], line["task"]) == ("vllm", "text")
        assert line["usage"]["image_tokens"] > 0
        assert {"fetch", "decode", "preprocess", "engine_queue", "infer"} <= set(line["timings_ms"])
        assert 0 < line["confidence"] < 1
    check_record(record, UUID(job_id))
    again = finished(client, submit(client, keys[:24], options=OPTIONS))
    assert {key: line["text"] for key, line in again.items()} == {
        key: line["text"] for key, line in found.items()
    }


def test_fields_bound_to_a_schema_are_on_record(client: Client, keys: list[str]) -> None:
    schema = {
        "type": "object",
        "properties": {
            "number": {"enum": ["R-1", "R-2", "R-3"]},
            "total": {"type": "integer", "minimum": 0, "maximum": 999},
        },
        "required": ["number", "total"],
        "additionalProperties": False,
    }
    found = finished(client, submit(client, keys[:8], task="extract", output_schema=schema))
    assert len(found) == 8
    for line in found.values():
        assert line["state"] == "succeeded", line
        assert isinstance(line["fields"]["number"], str)
        assert 0 <= line["fields"]["total"] <= 999


def test_an_image_sent_now_is_answered_now(client: Client) -> None:
    answer = client.recognize(encoded(drawn(7)), options=OPTIONS)
    assert answer["text"]


def engine_core(fleet: Fleet) -> psutil.Process:
    worker = psutil.Process(fleet.pids["worker"])
    (core,) = (
        child
        for child in worker.children(recursive=True)
        if "".join(child.cmdline()[:1]).startswith("VLLM::EngineCore")
    )
    return core


def kill_engine(fleet: Fleet) -> None:
    engine_core(fleet).kill()


def kill_worker(fleet: Fleet) -> None:
    core = engine_core(fleet)
    psutil.Process(fleet.pids["worker"]).kill()

    wait_for(lambda: is_gone(core), PATIENCE)


@pytest.mark.parametrize("blow", [kill_engine, kill_worker], ids=lambda blow: blow.__name__)
def test_every_page_ends_once_and_none_is_charged(
    fleet: Fleet, client: Client, keys: list[str], record: Database, blow: Callable[[Fleet], None]
) -> None:
    before = fleet.pids["worker"]
    job_id = submit(client, keys, options=OPTIONS)
    running = "SELECT 1 FROM pages WHERE job_id = :job AND state = 'running'"
    wait_for(lambda: client.job(job_id)["counts"]["succeeded"] >= 10, PATIENCE)
    assert sql(record, running, job=UUID(job_id)), "it must be hit under load"
    blow(fleet)
    found = finished(client, job_id)
    assert sorted(found) == keys
    assert {line["state"] for line in found.values()} == {"succeeded"}
    done = job(record, UUID(job_id))
    assert (done.total, done.succeeded, done.dead, done.canceled) == (PAGES, PAGES, 0, 0)
    check_record(record, UUID(job_id))
    charged = "SELECT 1 FROM pages WHERE job_id = :job AND failures > 0"
    assert not sql(record, charged, job=UUID(job_id)), "no failure is a page's own"
    assert fleet.pids["worker"] != before, "another worker came without a human"
