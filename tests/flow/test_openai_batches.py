"""OpenAI's own package, unchanged but for its `base_url`: it sends a batch to a real fleet and reads what came of it."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import openai
import orjson
import pytest
from fleet_builders import wait_for
from images import encoded, noise, pixel_hash

from ocrfleet import blobs
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.settings import Settings

PATIENCE = 120.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    services = ("api", "producer", "worker")
    with Fleet(tmp_path_factory.mktemp("fleet"), engine="null", services=services) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def client(fleet: Fleet) -> Iterator[openai.OpenAI]:
    environment = fleet.environment
    with openai.OpenAI(
        base_url=f"{environment['OCRFLEET_URL']}/v1", api_key=environment["OCRFLEET_API_KEY"]
    ) as client:
        yield client


def line(custom_id: str, url: str) -> bytes:
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "提取图中的文字。"}]
    body = {"model": "HunyuanOCR", "messages": [{"role": "user", "content": content}], "max_tokens": 4096}
    request = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE)


def lines(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    assert file_id
    found = [orjson.loads(one) for one in client.files.content(file_id).text.splitlines()]
    return {one["custom_id"]: one for one in found}


def test_a_batch_is_submitted_polled_and_read(fleet: Fleet, client: openai.OpenAI) -> None:
    images = {f"inline-{n}": encoded(noise(n)) for n in range(3)}
    stored = encoded(noise(99))
    environment = fleet.environment
    store = blobs.connect(
        Settings.model_validate(
            {
                name.lower(): environment[f"OCRFLEET_{name}"]
                for name in ("STORE_URL", "STORE_ACCESS_KEY", "STORE_SECRET_KEY")
            }
        )
    )
    store.put("ocr", "scans/99.png", stored, "image/png")
    packed = {
        name: f"data:image/png;base64,{base64.b64encode(data).decode()}" for name, data in images.items()
    }
    urls = packed | {
        "stored": "s3://ocr/scans/99.png",
        "missing": "s3://ocr/scans/none.png",
        "web": "http://127.0.0.1:1/a.png",
    }
    content = b"".join(line(name, url) for name, url in urls.items())

    file = client.files.create(file=("requests.jsonl", io.BytesIO(content)), purpose="batch")
    assert (file.status, file.bytes, file.purpose) == ("processed", len(content), "batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"customer": "acme"},
    )
    assert batch.status == "validating"
    done = wait_for(
        lambda: (found := client.batches.retrieve(batch.id)).status == "completed" and found, PATIENCE
    )
    assert done
    assert done.metadata == {"customer": "acme"}
    assert done.request_counts
    assert done.request_counts.to_dict() == {"total": 6, "completed": 4, "failed": 2}

    answers = lines(client, done.output_file_id)
    said = {
        name: one["response"]["body"]["choices"][0]["message"]["content"] for name, one in answers.items()
    }
    expected = {name: pixel_hash(data) for name, data in (images | {"stored": stored}).items()}
    assert {name: text for name, text in said.items() if expected[name] not in text} == {}
    errors = lines(client, done.error_file_id)
    assert errors["missing"]["response"]["status_code"] == 404
    assert errors["web"]["error"]["code"] == "invalid_image_url"

    assert batch.id in [one.id for one in client.batches.list(limit=1)]
    assert {one.purpose for one in client.files.list(limit=1)} == {"batch", "batch_output"}
    with pytest.raises(openai.ConflictError) as refused:
        client.batches.cancel(batch.id)
    assert refused.value.code == "job_state_conflict"
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_errors_are_the_packages_own(fleet: Fleet, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(input_file_id="file-x", endpoint="/v1/embeddings", completion_window="24h")
    assert (refused.value.param, refused.value.code) == ("endpoint", "validation_failed")
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    base_url = f"{fleet.environment['OCRFLEET_URL']}/v1"
    with (
        openai.OpenAI(base_url=base_url, api_key="ocrk_0_0") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.files.list()
