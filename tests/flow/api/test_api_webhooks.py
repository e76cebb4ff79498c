"""Webhooks over HTTP: made for the right addresses only, tried, rotated, listed, replayed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, get_args, get_type_hints
from uuid import uuid4

import pytest
from api_rig import Api, NewKey, StartApi
from fleet_builders import sql
from pydantic import BaseModel
from receiver import HANG, Receiver

from api import webhook_answers as answers
from api import webhooks
from ocrfleet.client import ApiError, Client
from ocrfleet.client import webhooks as types
from ocrfleet.db import Database
from ocrfleet.store.webhooks import EVENTS
from ocrfleet.webhooks import VerificationError, verify

URL = "/v1/webhooks"
Receivers = Callable[..., Receiver]


@pytest.fixture
def here(start_api: StartApi) -> Api:
    """An API that sends to this machine too."""
    return start_api(webhook_http=True, webhook_networks="127.0.0.0/8", webhook_timeout=2.0)


@pytest.fixture
def receivers() -> Iterator[Receivers]:
    with ExitStack() as running:
        yield lambda *moods: running.enter_context(Receiver(*moods))


def make(api: Api, url: str, **members: Any) -> dict[str, Any]:
    answer = api.http.post(URL, json={"url": url, **members})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_webhook_is_made_read_changed_and_deleted(here: Api, receivers: Receivers) -> None:
    receiver = receivers()
    answer = here.http.post(
        URL, json={"url": receiver.url(), "events": ["job.failed"], "description": "mine"}
    )
    made = answer.json()
    assert answer.headers["Location"] == f"{URL}/{made['id']}"
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert (made["enabled"], made["fault"], made["events"], made["description"]) == (
        True,
        None,
        ["job.failed"],
        "mine",
    )
    assert here.http.get(f"{URL}/{made['id']}").json() == made, "the secret is shown once"
    assert here.http.get(URL).json() == {"data": [made], "next_page_token": None}
    changed = here.http.patch(
        f"{URL}/{made['id']}", json={"events": [], "enabled": False, "description": None}
    )
    assert changed.json() == made | {"events": [], "enabled": False, "description": None}
    assert here.http.delete(f"{URL}/{made['id']}").status_code == 204
    assert here.http.delete(f"{URL}/{made['id']}").status_code == 404
    assert here.http.get(URL).json()["data"] == []


def test_webhooks_are_listed_page_by_page(here: Api, receivers: Receivers) -> None:
    receiver = receivers()
    made = [make(here, receiver.url())["id"] for _ in range(3)]
    first = here.http.get(URL, params={"page_size": 2}).json()
    second = here.http.get(URL, params={"page_size": 2, "page_token": first["next_page_token"]}).json()
    assert [one["id"] for one in first["data"] + second["data"]] == made[::-1]
    assert second["next_page_token"] is None


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "https://127.0.0.1/", "https://localhost/", "https://[::1]/", "https://10.0.0.1/x",
     "https://169.254.169.254/latest/", "https://u:p@example.com/", "https://nowhere.invalid/", "x", "https://"],
)  # fmt: skip
def test_no_webhook_leads_inside(api: Api, database: Database, url: str) -> None:
    made = api.http.post(URL, json={"url": url})
    assert (made.status_code, made.json()["code"]) == (422, "validation_failed")
    assert made.json()["errors"][0]["pointer"] == "/url"
    assert sql(database, "SELECT 1 FROM webhooks") == []


def test_a_webhook_is_not_led_inside_by_a_change(
    start_api: StartApi, here: Api, receivers: Receivers
) -> None:
    receiver = receivers()
    made = make(here, receiver.url())
    strict = start_api(webhook_http=True)
    refused = strict.http.patch(f"{URL}/{made['id']}", json={"url": receiver.url()})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/url")
    # Nor is one that was made when the settings were others.
    tried = strict.http.post(f"{URL}/{made['id']}/test").json()
    assert (tried["delivered"], tried["status"], receiver.received) == (False, None, [])
    assert "not at a public address" in tried["error"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/url"),
        ({"url": "https://example.com", "events": ["job.begun"]}, "/events/0"),
        ({"url": "https://example.com", "secret": "x"}, "/secret"),
        ({"url": "https://example.com/\0"}, "/url"),
        ({"url": "https://example.com/" + "x" * 2048}, "/url"),
    ],
)
def test_a_bad_request_is_told_where(api: Api, body: dict[str, Any], pointer: str) -> None:
    refused = api.http.post(URL, json=body).json()
    assert (refused["code"], refused["errors"][0]["pointer"]) == ("validation_failed", pointer)


def test_null_is_no_change(here: Api, receivers: Receivers) -> None:
    made = make(here, receivers().url())
    for name in ("url", "events", "enabled"):
        refused = here.http.patch(f"{URL}/{made['id']}", json={name: None})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, f"/{name}")


def test_a_tenant_has_so_many_webhooks_at_most(here: Api, database: Database, receivers: Receivers) -> None:
    receiver = receivers()
    make(here, receiver.url())
    copies = """
        INSERT INTO webhooks (id, tenant_id, url, secret)
        SELECT gen_random_uuid(), tenant_id, url, secret FROM webhooks, generate_series(2, :most)"""
    sql(database, copies, most=webhooks.MOST)
    refused = here.http.post(URL, json={"url": receiver.url()}).json()
    assert (refused["code"], refused["limit"], refused["actual"]) == (
        "validation_failed",
        webhooks.MOST,
        webhooks.MOST,
    )


def test_a_test_tells_what_the_receiver_said(here: Api, receivers: Receivers) -> None:
    receiver = receivers(204, 401, HANG)
    made = make(here, receiver.url())
    good, bad, late = (here.http.post(f"{URL}/{made['id']}/test").json() for _ in range(3))
    assert (good["delivered"], good["status"], good["error"], good["body"]) == (True, 204, None, "")
    assert (bad["delivered"], bad["status"], bad["error"], bad["body"]) == (
        False, 401, "the receiver answered 401", "so it is",
    )  # fmt: skip
    assert (late["delivered"], late["status"], late["error"]) == (False, None, "no answer within 2 s")
    assert receiver.message_ids == [good["message_id"], bad["message_id"], late["message_id"]]
    request = receiver.received[0]
    event = verify(request.body, request.headers, made["secret"])
    assert (event["type"], event["data"]) == ("webhook.test", {"webhook_id": made["id"]})


def test_a_new_secret_signs_beside_the_old_one(here: Api, receivers: Receivers) -> None:
    receiver = receivers()
    made = make(here, receiver.url())
    rotated = here.http.post(f"{URL}/{made['id']}/rotate-secret").json()
    assert rotated["secret"] != made["secret"]
    assert rotated["previous_secret_until"]
    here.http.post(f"{URL}/{made['id']}/test")
    (request,) = receiver.received
    for secret in (made["secret"], rotated["secret"]):
        assert verify(request.body, request.headers, secret)
    again = here.http.post(f"{URL}/{made['id']}/rotate-secret").json()
    here.http.post(f"{URL}/{made['id']}/test")
    request = receiver.received[1]
    assert verify(request.body, request.headers, [again["secret"]])
    with pytest.raises(VerificationError):
        verify(request.body, request.headers, made["secret"])


def test_deliveries_are_listed_filtered_and_replayed(
    here: Api, database: Database, receivers: Receivers
) -> None:
    webhook = make(here, receivers().url())["id"]
    for _ in range(3):
        body = {"input": {"type": "prefix", "bucket": "scans", "prefix": "a/"}, "webhook_ids": [webhook]}
        job = here.http.post("/v1/jobs", json=body).json()
        here.http.post(f"/v1/jobs/{job['id']}/cancel")
    sql(
        database,
        "UPDATE webhook_deliveries SET state = 'failed', attempts = 9 WHERE message_id LIKE :id",
        id=f"{job['id']}%",
    )
    listed = f"{URL}/{webhook}/deliveries"
    first = here.http.get(listed, params={"page_size": 2}).json()
    second = here.http.get(listed, params={"page_size": 2, "page_token": first["next_page_token"]}).json()
    found = first["data"] + second["data"]
    assert len({one["id"] for one in found}) == 3
    assert (found[0]["message_id"], found[0]["event"]) == (f"{job['id']}-1-canceled", "job.canceled")
    assert found[0]["payload"]["data"]["job_id"] == job["id"]
    for query, count in (({"state": "failed"}, 1), ({"state": "delivered"}, 0), ({"event": "job.canceled"}, 3),
                         ({"event": "job.failed"}, 0)):  # fmt: skip
        assert len(here.http.get(listed, params=query).json()["data"]) == count
    assert here.http.get(listed, params={"page_token": first["next_page_token"][::-1]}).status_code == 422
    again = here.http.post(f"{listed}/{found[0]['id']}/replay")
    assert (again.status_code, again.json()["state"], again.json()["attempts"]) == (202, "waiting", 0)
    assert here.http.post(f"{listed}/{2**62}/replay").status_code == 404
    sql(database, "UPDATE webhook_deliveries SET state = 'failed'")
    now = datetime.now(UTC)
    for since, until, count in ((now + timedelta(hours=1), None, 0), (now - timedelta(hours=1), now - timedelta(minutes=30), 0),
                                (now - timedelta(hours=1), None, 3)):  # fmt: skip
        body = {"since": since.isoformat()} | ({"until": until.isoformat()} if until else {})
        assert here.http.post(f"{URL}/{webhook}/replay", json=body).json() == {"replayed": count}
    here.http.patch(f"{URL}/{webhook}", json={"enabled": False})
    refused = here.http.post(f"{URL}/{webhook}/replay", json={"since": now.isoformat()})
    assert (refused.status_code, refused.json()["code"]) == (409, "job_state_conflict")


def test_what_is_another_tenants_is_not_there(here: Api, new_key: NewKey, receivers: Receivers) -> None:
    webhook = make(here, receivers().url())["id"]
    with here.client(new_key("other")) as other:
        for method, path, body in (
            ("GET", "", None), ("PATCH", "", {"enabled": False}), ("DELETE", "", None), ("POST", "/test", None),
            ("POST", "/rotate-secret", None), ("GET", "/deliveries", None), ("POST", "/deliveries/1/replay", None),
            ("POST", "/replay", {"since": "2026-01-01T00:00:00Z"}),
        ):  # fmt: skip
            answer = other.request(method, f"{URL}/{webhook}{path}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
        assert other.get(URL).json()["data"] == []
        job = {"input": {"type": "prefix", "bucket": "scans", "prefix": "a/"}, "webhook_ids": [webhook]}
        assert other.post("/v1/jobs", json=job).status_code == 422
    assert here.http.get(f"{URL}/{webhook}").json()["enabled"]


def test_a_job_names_webhooks_that_are_there(here: Api, database: Database, receivers: Receivers) -> None:
    webhook, stranger = make(here, receivers().url())["id"], str(uuid4())
    body = {
        "input": {"type": "prefix", "bucket": "scans", "prefix": "a/"},
        "webhook_ids": [webhook, stranger],
    }
    refused = here.http.post("/v1/jobs", json=body)
    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {"pointer": "/webhook_ids/1", "detail": f"there is no webhook {stranger}"}
    ]
    assert sql(database, "SELECT 1 FROM jobs") == []


def test_webhooks_are_asked_for_before_a_job_is_made_too(
    here: Api, database: Database, new_key: NewKey, receivers: Receivers
) -> None:
    webhook, stranger = make(here, receivers().url())["id"], str(uuid4())
    given = {"type": "objects", "objects": [{"bucket": "scans", "key": "a.png"}]}
    rule = {"name": "r", "job": {"webhook_ids": [webhook]}}
    made = here.http.post("/v1/bucket-rules", json=rule)
    assert made.status_code == 201
    path = made.headers["Location"]
    assert here.http.patch(path, json={"job": rule["job"]}).status_code == 200
    asked = {"input": given, "webhook_ids": [webhook], "validate_only": True}
    assert here.http.post("/v1/jobs", json=asked).status_code == 200
    with here.client(new_key("other")) as other:
        for http, id_ in ((here.http, stranger), (other, webhook)):
            fault = f"there is no webhook {id_}"
            refused = http.post("/v1/jobs", json=asked | {"webhook_ids": [id_]})
            assert refused.json()["errors"] == [{"pointer": "/webhook_ids/0", "detail": fault}]
            refused = http.post("/v1/bucket-rules", json={"name": "s", "job": {"webhook_ids": [id_]}})
            assert refused.json()["errors"] == [{"pointer": "/job/webhook_ids/0", "detail": fault}]
        refused = here.http.patch(path, json={"job": {"webhook_ids": [webhook, stranger]}})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["pointer"] == "/job/webhook_ids/1"
    assert len(sql(database, "SELECT 1 FROM bucket_rules")) == 1
    assert here.http.get(path).json()["job"]["webhook_ids"] == [webhook]


def test_the_sdk_has_every_call(here: Api, receivers: Receivers) -> None:
    receiver = receivers()
    key = here.http.headers["Authorization"].removeprefix("Bearer ")
    with Client(here.url, key) as client:
        made = client.create_webhook(receiver.url(), events=["job.canceled"], description="mine")
        assert [one["id"] for one in client.webhooks(page_size=1)] == [made["id"]]
        assert client.webhook(made["id"])["description"] == "mine"
        assert client.update_webhook(made["id"], description="ours")["description"] == "ours"
        assert client.test_webhook(made["id"])["delivered"]
        assert client.rotate_webhook_secret(made["id"])["secret"] != made["secret"]  # type: ignore[typeddict-item]
        job = client.create_job({"type": "prefix", "bucket": "scans", "prefix": "a/"})
        client.cancel_job(job["id"])
        (delivery,) = client.deliveries(made["id"], state="waiting", event="job.canceled")
        assert client.replay_delivery(made["id"], delivery["id"])["message_id"] == f"{job['id']}-1-canceled"
        assert client.replay_deliveries(made["id"], since="2026-01-01T00:00:00Z", state="delivered") == 0
        client.delete_webhook(made["id"])
        with pytest.raises(ApiError, match="not_found"):
            client.webhook(made["id"])


def test_the_api_and_the_sdk_say_the_same() -> None:
    assert get_args(webhooks.Event) == EVENTS
    pairs: tuple[tuple[type[BaseModel], Any], ...] = (
        (answers.WebhookSecret, types.Webhook), (answers.Delivery, types.Delivery), (answers.Trial, types.Trial),
    )  # fmt: skip
    for model, typed in pairs:
        assert set(model.model_fields) == set(get_type_hints(typed)), model.__name__
