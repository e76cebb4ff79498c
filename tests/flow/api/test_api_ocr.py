"""One image at once: POST /v1/ocr."""

import base64
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from api_rig import Api, NewWorker, StartApi, until
from sqlalchemy import text

from ocrfleet import blobs
from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile, FleetError, InferenceTimeout, InputNotFound
from ocrfleet.settings import Settings
from ocrfleet.store import control

IMAGE = b"\x89PNG but never decoded here"
BASE64 = base64.b64encode(IMAGE).decode()
JSON = {"Content-Type": "application/json"}
TERMINATE = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE application_name = 'ocrfleet-api-listen' AND datname = current_database()"
)


@pytest.fixture
def store(s3: Settings) -> Settings:
    settings = s3
    blobs.connect(settings).ensure_bucket(settings.bucket)
    return settings


@pytest.fixture
def serve(start_api: StartApi, store: Settings) -> StartApi:
    """Starts an API on the real store."""

    def start(**settings: Any) -> Api:
        keys = store.model_dump(include={"store_url", "store_access_key", "store_secret_key"})
        return start_api(**keys, **settings)

    return start


def stored(database: Database) -> list[tuple[str, str, str]]:
    with database.transaction() as session:
        return [
            tuple(row) for row in session.execute(text("SELECT bucket, key, etag FROM items ORDER BY id"))
        ]


def states(database: Database) -> list[str]:
    with database.transaction() as session:
        return list(session.execute(text("SELECT state FROM jobs ORDER BY created_at")).scalars())


def test_a_form_is_answered_with_the_result_and_its_bytes_are_in_the_bucket(
    serve: StartApi, store: Settings, new_worker: NewWorker, database: Database
) -> None:
    worker = new_worker()
    worker.serve({"text": "hello"})
    form = {"task": "text", "options": '{"password": "x"}'}
    answer = serve().http.post("/v1/ocr", files={"file": ("a.png", IMAGE)}, data=form)
    result = answer.json()
    assert (answer.status_code, result["text"], result["state"]) == (200, "hello", "succeeded")
    ((bucket, key, etag),) = stored(database)
    assert (result["bucket"], result["key"]) == (bucket, key)
    prefix, hour, name = key.split("/")
    assert (prefix, len(hour), str(UUID(name))) == ("interactive", 10, result["job_id"])
    fetched = blobs.connect(store).fetch(bucket, key, max_bytes=1000, etag=etag)
    assert fetched.data == IMAGE


@pytest.mark.parametrize("image", [BASE64, f"data:image/png;base64,{BASE64}", f"{BASE64[:8]}\n{BASE64[8:]}"])
def test_json_carries_base64_or_a_data_uri(
    serve: StartApi, store: Settings, new_worker: NewWorker, database: Database, image: str
) -> None:
    new_worker().serve({"text": "hello"})
    answer = serve().http.post("/v1/ocr", json={"image": image})
    assert (answer.status_code, answer.json()["text"]) == (200, "hello")
    ((bucket, key, _),) = stored(database)
    assert blobs.connect(store).fetch(bucket, key, max_bytes=1000).data == IMAGE


def test_json_may_name_an_object_which_is_pinned(
    serve: StartApi, store: Settings, new_worker: NewWorker, database: Database
) -> None:
    new_worker().serve({"text": "hello"})
    put = blobs.connect(store).put(store.bucket, "scans/a.png", IMAGE, "image/png")
    api = serve()
    answer = api.http.post("/v1/ocr", json={"image": {"key": "scans/a.png"}})
    assert (answer.status_code, answer.json()["key"]) == (200, "scans/a.png")
    assert stored(database) == [(store.bucket, "scans/a.png", put.etag)]
    missing = api.http.post("/v1/ocr", json={"image": {"key": "scans/b.png"}})
    assert (missing.status_code, missing.json()["code"]) == (404, InputNotFound.code)


@pytest.mark.parametrize(
    "error", [CorruptFile("no end of image", at=17), InferenceTimeout(), InputNotFound()]
)
def test_a_dead_page_answers_with_its_own_status_and_code(
    serve: StartApi, new_worker: NewWorker, error: FleetError
) -> None:
    new_worker().serve(error)
    answer = serve().http.post("/v1/ocr", json={"image": BASE64})
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.status_code, problem["code"], problem["detail"]) == (
        error.status,
        error.code,
        error.detail,
    )
    assert {name: problem[name] for name in error.extra} == error.extra


def test_the_answer_comes_although_no_notification_does(
    serve: StartApi, new_worker: NewWorker, database: Database
) -> None:
    worker, api = new_worker(), serve()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.http.post, "/v1/ocr", json={"image": BASE64})
        until(lambda: stored(database))
        with database.transaction() as session:
            assert session.execute(text(TERMINATE)).scalar_one() == 1
        worker.serve({"text": "hello"})
        assert waiting.result(15).json()["text"] == "hello"


def test_the_listener_connects_again(serve: StartApi, database: Database) -> None:
    def listeners() -> int:
        with database.transaction() as session:
            return session.execute(text(TERMINATE)).scalar_one()

    api = serve()
    until(listeners)
    until(listeners)
    assert api.http.get("/livez").status_code == 200


def test_over_its_time_the_page_is_canceled(
    serve: StartApi, new_worker: NewWorker, database: Database
) -> None:
    new_worker()
    api = serve(sync_wait=1.0)
    for headers in ({}, {"Prefer": "wait=1"}, {"Prefer": "wait=600"}):
        answer = api.http.post("/v1/ocr", json={"image": BASE64}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
        assert answer.json()["limit"] == 1.0
    assert set(states(database)) == {"canceled"}


def test_who_prefers_not_to_wait_gets_the_address_of_a_job_that_goes_on(
    serve: StartApi, new_worker: NewWorker
) -> None:
    worker, api = new_worker(), serve()
    answer = api.http.post("/v1/ocr", json={"image": BASE64}, headers={"Prefer": "respond-async, wait=1"})
    url = answer.headers["Location"]
    assert (answer.status_code, answer.json()["counts"]["total"]) == (202, 1)
    worker.serve({"text": "hello"})
    until(lambda: api.http.get(url).json()["state"] == "completed")
    result, end = (orjson.loads(line) for line in api.http.get(f"{url}/results").content.splitlines())
    assert (result["text"], end["_end"]) == ("hello", True)
    assert api.http.get("/v1/jobs").json()["data"] == []
    done = api.http.post("/v1/ocr", json={"image": BASE64}, headers={"Prefer": "wait=10, respond-async"})
    assert done.status_code == 200


def test_a_caller_who_hangs_up_ends_the_work(
    serve: StartApi, new_worker: NewWorker, database: Database
) -> None:
    new_worker()
    api = serve()
    with ThreadPoolExecutor(1) as pool, api.client("") as other:
        other.headers = api.http.headers
        pool.submit(other.post, "/v1/ocr", json={"image": BASE64}, timeout=1.0)
        until(lambda: states(database) == ["queued"])
        until(lambda: states(database) == ["canceled"])
    with database.transaction() as session:
        (error,) = session.execute(text("SELECT error ->> 'code' FROM jobs")).scalars()
    assert error == "canceled"


def test_a_job_that_somebody_cancels_answers_so(
    serve: StartApi, new_worker: NewWorker, database: Database
) -> None:
    new_worker()
    api = serve()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.http.post, "/v1/ocr", json={"image": BASE64})
        until(lambda: states(database) == ["queued"])
        with database.transaction() as session:
            row = session.execute(text("SELECT tenant_id, id FROM jobs")).one()
            control.cancel(session, row.tenant_id, row.id)
        answer = waiting.result(15)
    assert (answer.status_code, answer.json()["code"]) == (409, "canceled")


def test_a_job_that_is_deleted_before_its_caller_hears_of_its_end_is_not_found(
    serve: StartApi, new_worker: NewWorker, database: Database
) -> None:
    new_worker()
    api = serve()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.http.post, "/v1/ocr", json={"image": BASE64})
        until(lambda: states(database) == ["queued"])
        with database.transaction() as session:
            row = session.execute(text("SELECT tenant_id, id FROM jobs")).one()
            control.cancel(session, row.tenant_id, row.id)
            control.delete(session, row.tenant_id, row.id, actor="a")
        answer = waiting.result(15)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_without_a_worker_it_is_refused_before_the_image_is_read(api: Api) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    head = (
        "POST /v1/ocr HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n"
        f"Authorization: {api.http.headers['Authorization']}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        connection.sendall(head.encode())  # and nothing of the body
        answer = ""
        while not answer.endswith("}"):
            answer += connection.recv(65536).decode()
    status, _, rest = answer.partition("\r\n")
    assert "503" in status
    assert "retry-after: 5" in rest.lower()
    assert '"code":"no_capacity"' in rest


def test_the_window_of_interactive_pages_is_never_exceeded(
    serve: StartApi, new_worker: NewWorker, database: Database
) -> None:
    new_worker()
    new_worker()
    api = serve(interactive_window=2)

    def ask(_: int) -> httpx.Response:
        return api.http.post("/v1/ocr", json={"image": BASE64}, headers={"Prefer": "respond-async"})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    refused = [answer for answer in answers if answer.status_code == 503]
    assert [answer.status_code for answer in answers].count(202) == len(states(database)) == 4
    assert len(refused) == 12
    for answer in refused:
        problem = answer.json()
        assert (problem["code"], problem["limit"], problem["actual"]) == ("no_capacity", 4, 4)
        assert answer.headers["Retry-After"] == "1"


def idle_in_transaction(database: Database) -> int:
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    )
    with database.transaction() as session:
        return session.execute(text(query)).scalar_one()


def test_those_who_wait_hold_no_thread_and_no_transaction(
    serve: StartApi, new_worker: NewWorker, database: Database
) -> None:
    """More wait than there are threads and connections, and the next call is still answered."""
    worker, api = new_worker(), serve(interactive_window=100)
    with ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(api.http.post, "/v1/ocr", json={"image": BASE64}) for _ in range(60)]
        until(lambda: len(stored(database)) == 60, 30)
        assert api.http.get("/v1/jobs").status_code == 200
        # The API's own short transactions come and go; one that somebody holds while he waits would stay.
        until(lambda: idle_in_transaction(database) == 0, 10)
        worker.serve({"text": "hello"})
        assert {answer.result(30).status_code for answer in waiting} == {200}
