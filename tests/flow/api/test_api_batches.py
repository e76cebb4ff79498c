"""Files and batches: the façade, and the producer that moves batches on; the worker is moved by hand."""

import base64
from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
import pytest
from api_rig import Api, NewKey, NewWorker, StartApi, Worker
from sqlalchemy import text

from ocrfleet import blobs
from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile
from ocrfleet.settings import Settings
from producer.batches import Batcher
from producer.expand import Expander

IMAGE = "data:image/png;base64," + base64.b64encode(b"pixels").decode()
RESULT = {"text": "read", "model": "m", "usage": {"prompt_tokens": 1, "output_tokens": 2, "image_tokens": 0}}


def line(custom_id: str, url: str = IMAGE, prompt: str | None = None, **body: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}]
    if prompt is not None:
        parts.append({"type": "text", "text": prompt})
    messages = [{"role": "user", "content": parts}]
    body = {"model": "m", "messages": messages, **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def jsonl(*lines: dict[str, Any]) -> bytes:
    return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)


@pytest.fixture
def api(start_api: StartApi, s3: Settings) -> Api:
    return start_api(**s3.model_dump(include={"store_url", "store_access_key", "store_secret_key"}))


@pytest.fixture
def batcher(api: Api, database: Database) -> Batcher:
    return Batcher(api.settings, database, blobs.connect(api.settings))


@pytest.fixture
def send(api: Api) -> Callable[[bytes], str]:
    def post(content: bytes) -> str:
        form = {"file": ("r.jsonl", content)}
        return api.http.post("/v1/files", files=form, data={"purpose": "batch"}).json()["id"]

    return post


@pytest.fixture
def begin(api: Api, send: Callable[[bytes], str], batcher: Batcher) -> Callable[..., str]:
    """A batch whose file has been read."""

    def go(*lines: dict[str, Any], window: str = "24h") -> str:
        body = {"input_file_id": send(jsonl(*lines)), "endpoint": "/v1/chat/completions"}
        made = api.http.post("/v1/batches", json=body | {"completion_window": window})
        assert (made.status_code, made.json()["status"]) == (200, "validating")
        assert batcher.step()
        return made.json()["id"]

    return go


def batch(api: Api, batch_id: str) -> dict[str, Any]:
    return api.http.get(f"/v1/batches/{batch_id}").json()


def content(api: Api, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of a file by their `custom_id`."""
    if file_id is None:
        return {}
    answer = api.http.get(f"/v1/files/{file_id}/content")
    assert answer.status_code == 200
    lines = [orjson.loads(one) for one in answer.content.splitlines()]
    assert len({one["id"] for one in lines}) == len(lines)
    return {one["custom_id"]: one for one in lines}


def expand(api: Api, database: Database) -> list[UUID]:
    expander = Expander(api.settings, database, blobs.connect(api.settings))
    while expander.step():
        pass
    expander.close()
    with database.transaction() as session:
        return list(session.execute(text("SELECT unnest(job_ids) FROM batches")).scalars())


def test_a_batch_goes_from_its_file_to_its_files(
    api: Api, database: Database, begin: Callable[..., str], batcher: Batcher, new_worker: NewWorker
) -> None:
    worker = new_worker("text", "parse", "prompt")
    batch_id = begin(
        line("a"),
        line("b", prompt="提取图中的文字。"),
        line("web", url="https://example.com/a.png"),
        line("bad"),
        line("obj", url="s3://ocr/nowhere.png"),
        line("free", prompt="Who?", max_tokens=50),
        line("formula", prompt="把图中的表格解析为HTML。"),
    )
    begun = batch(api, batch_id)
    assert (begun["status"], begun["request_counts"]) == (
        "in_progress",
        {"total": 7, "completed": 0, "failed": 2},
    )
    # No text, the prompt of `text` with its language, and a free prompt: three jobs.
    jobs_of = expand(api, database)
    assert len(jobs_of) == 3
    shown = [api.http.get(f"/v1/jobs/{job_id}").json() for job_id in jobs_of]
    assert {job["labels"]["openai_batch"] for job in shown} == {batch_id}
    assert {job["task"] for job in shown} == {"text", "prompt"}
    assert not batcher.step(), "its jobs go on"
    assert worker.settle(jobs_of, [RESULT, CorruptFile("no image"), RESULT, RESULT, RESULT]) == 5
    assert batcher.step()
    done = batch(api, batch_id)
    assert (done["status"], done["request_counts"]) == (
        "completed",
        {"total": 7, "completed": 4, "failed": 3},
    )
    assert done["completed_at"] >= done["finalizing_at"] >= done["in_progress_at"] >= done["created_at"]
    answers, errors = content(api, done["output_file_id"]), content(api, done["error_file_id"])
    assert len(answers) == 4
    assert answers["free"]["response"]["body"]["usage"]["total_tokens"] == 3
    assert set(errors) >= {"web", "formula"}
    assert "fetches nothing" in errors["web"]["error"]["message"]
    assert errors["formula"]["error"]["code"] == "unknown_task"
    (failed,) = (one for name, one in errors.items() if name not in ("web", "formula"))
    assert failed["response"]["body"]["error"]["code"] == "corrupt_file"
    assert {*answers, *errors} == {"a", "b", "web", "bad", "obj", "free", "formula"}
    assert not batcher.step()


@pytest.mark.parametrize(
    ("content", "code", "number"),
    [
        (b"{\n", "invalid_json_line", 1),
        (b"\n\n", "empty_file", None),
        (jsonl(line("a"), line("a")), "duplicate_custom_id", 2),
        (jsonl(line("a")) + b'{"custom_id":"b","method":"POST","url":"/v1/x"}', "invalid_url", 2),
        (jsonl(line("a")) + b"x" * 2000, "line_too_long", 2),
    ],
)
def test_a_file_that_is_no_batch_fails_it_with_its_line(
    start_api: StartApi, s3: Settings, database: Database, content: bytes, code: str, number: int | None
) -> None:
    # Lines of up to 64 KiB more than an image may have.
    content = content.replace(b"x" * 2000, b"x" * 70_000)
    store = s3.model_dump(include={"store_url", "store_access_key", "store_secret_key"})
    api = start_api(**store, sync_max_bytes=1000)
    file = api.http.post("/v1/files", files={"file": ("r", content)}, data={"purpose": "batch"}).json()["id"]
    body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch_id = api.http.post("/v1/batches", json=body).json()["id"]
    batcher = Batcher(api.settings, database, blobs.connect(api.settings))
    assert batcher.step()
    failed = batch(api, batch_id)
    assert (failed["status"], failed["failed_at"] is not None) == ("failed", True)
    (fault,) = failed["errors"]["data"]
    assert (fault["code"], fault["line"]) == (code, number)
    assert not batcher.step()
    late = api.http.post(f"/v1/batches/{batch_id}/cancel")
    assert (late.status_code, late.json()["error"]["code"]) == (409, "job_state_conflict")


def test_a_batch_without_its_file_fails(api: Api, send: Callable[[bytes], str], batcher: Batcher) -> None:
    file = send(jsonl(line("a")))
    body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch_id = api.http.post("/v1/batches", json=body).json()["id"]
    api.http.delete(f"/v1/files/{file}")
    batcher.step()
    assert batch(api, batch_id)["errors"]["data"][0]["code"] == "input_file_not_found"


def test_a_canceled_batch_keeps_what_was_read(
    api: Api, database: Database, begin: Callable[..., str], batcher: Batcher, new_worker: NewWorker
) -> None:
    worker: Worker = new_worker()
    batch_id = begin(line("a"), line("b"), line("web", url="http://x/"))
    worker.settle(expand(api, database), [RESULT])
    canceled = api.http.post(f"/v1/batches/{batch_id}/cancel").json()
    assert (canceled["status"], canceled["cancelling_at"] is not None) == ("cancelling", True)
    assert api.http.post(f"/v1/batches/{batch_id}/cancel").status_code == 200
    assert batcher.step()
    ended = batch(api, batch_id)
    assert (ended["status"], ended["request_counts"]) == (
        "cancelled",
        {"total": 3, "completed": 1, "failed": 2},
    )
    assert set(content(api, ended["output_file_id"])) == {"a"}
    errors = content(api, ended["error_file_id"])
    assert {name: one["error"]["code"] for name, one in errors.items()} == {
        "b": "batch_cancelled",
        "web": "invalid_image_url",
    }


def test_a_batch_canceled_before_it_is_read_has_no_files(
    api: Api, send: Callable[[bytes], str], batcher: Batcher
) -> None:
    body = {"input_file_id": send(jsonl(line("a"))), "endpoint": "/v1/chat/completions"}
    batch_id = api.http.post("/v1/batches", json=body | {"completion_window": "1h"}).json()["id"]
    api.http.post(f"/v1/batches/{batch_id}/cancel")
    batcher.step()
    ended = batch(api, batch_id)
    assert (ended["status"], ended["output_file_id"], ended["error_file_id"]) == ("cancelled", None, None)


def test_a_batch_past_its_window_expires_also_for_lines_never_listed(
    api: Api, database: Database, begin: Callable[..., str], batcher: Batcher
) -> None:
    batch_id = begin(line("a"), line("b"))
    with database.transaction() as session:
        session.execute(text("UPDATE jobs SET state = 'canceled', finished_at = now(), listed_at = now(), "
                             "error = '{\"code\":\"deadline_exceeded\"}'"))  # fmt: skip
    batcher.step()
    ended = batch(api, batch_id)
    assert (ended["status"], ended["expired_at"] is not None) == ("expired", True)
    errors = content(api, ended["error_file_id"])
    assert {name: one["error"]["code"] for name, one in errors.items()} == dict.fromkeys(
        "ab", "batch_expired"
    )


def test_a_producer_that_lost_its_turn_writes_nothing(
    api: Api, database: Database, begin: Callable[..., str], batcher: Batcher
) -> None:
    from ocrfleet.store import batches

    batch_id = begin(line("a", url="http://x/"))
    with database.transaction() as session:
        first = batches.lease(session, 60)
        assert first is not None
        assert batches.lease(session, 60) is None
        session.execute(text("UPDATE batches SET leased_until = now() - interval '1 s'"))
    assert batcher.step()
    ended = batch(api, batch_id)
    with database.transaction() as session:
        assert batches.renew(session, first, 60) is None
        assert not batches.end(
            session, first, first.status, completed=9, failed=9, output_file_id=None, error_file_id=None
        )
    assert batch(api, batch_id) == ended


def test_batches_are_listed_page_by_page_and_other_tenants_see_none(
    api: Api, begin: Callable[..., str], new_key: NewKey
) -> None:
    ids = [begin(line("a")) for _ in range(3)]
    listed = api.http.get("/v1/batches?limit=2").json()
    assert ([one["id"] for one in listed["data"]], listed["has_more"]) == (ids[:0:-1], True)
    rest = api.http.get(f"/v1/batches?limit=2&after={listed['last_id']}").json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (ids[:1], False)
    with api.client(new_key("other")) as other:
        assert other.get("/v1/batches").json()["data"] == []
        assert other.get(f"/v1/batches/{ids[0]}").status_code == 404
        assert other.post(f"/v1/batches/{ids[0]}/cancel").status_code == 404


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "31d"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"input_file_id": "file-none"}, None),
    ],
)
def test_a_batch_that_is_none_is_refused_in_their_shape(
    strict: Api, changed: dict[str, Any], param: str | None
) -> None:
    body = {"input_file_id": "file-x", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    answer = strict.http.post("/v1/batches", json=body | changed)
    assert answer.status_code == (404 if param is None else 400)
    assert answer.json()["error"]["param"] == param
    with strict.client("ocrk_0_0") as stranger:
        refused = stranger.get("/v1/batches")
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthenticated")
        assert refused.headers["WWW-Authenticate"] == "Bearer"
