"""`ocrfleet webhooks`: what each command asks of the API, and what it tells people and programs."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from canned_api import CannedApi, call
from typer.testing import CliRunner

from ocrfleet.cli import build

URL = "/v1/webhooks"
HOOK: dict[str, Any] = {
    "id": "w1", "url": "https://example.com/x", "description": None, "events": [], "enabled": True, "fault": None,
    "created_at": "2026-11-20T09:00:00Z", "previous_secret_until": None,
}  # fmt: skip
BROKEN = HOOK | {"id": "w2", "events": ["job.failed"], "enabled": False, "fault": "the receiver is gone"}
WAITING: dict[str, Any] = {
    "id": "7", "message_id": "m", "event": "job.failed", "payload": {}, "state": "waiting", "attempts": 2,
    "next_at": "2026-11-20T10:00:00Z", "status": 500, "error": "the receiver answered 500", "milliseconds": 9,
    "created_at": "2026-11-20T09:00:00Z", "delivered_at": None,
}  # fmt: skip
SENT = WAITING | {"id": "6", "state": "delivered", "status": 204, "error": None}


@pytest.fixture
def api() -> Iterator[CannedApi]:
    with CannedApi({}) as api:
        yield api


def listed(*members: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(members), "next_page_token": None}


@pytest.mark.parametrize("command", ["ls", "add", "rm", "test", "rotate", "enable", "deliveries", "replay"])
def test_every_command_explains_itself(command: str) -> None:
    arguments = ["webhooks", command, "--help"]
    answer = CliRunner().invoke(build(arguments), arguments, prog_name="ocrfleet")
    assert answer.exit_code == 0
    assert answer.output.startswith(f"Usage: ocrfleet webhooks {command}")


def test_webhooks_are_listed(api: CannedApi, tmp_path: Path) -> None:
    api.answers[f"GET {URL}"] = listed(HOOK, BROKEN)
    status, out, err = call(api, tmp_path, "webhooks", "ls")
    rows = [line.split() for line in out.splitlines()]
    assert rows[1] == ["w1", "https://example.com/x", "all", "enabled"]
    assert rows[2] == [
        "w2",
        "https://example.com/x",
        "job.failed",
        "disabled:",
        "the",
        "receiver",
        "is",
        "gone",
    ]
    assert (status, err) == (0, "")


def test_a_secret_is_data_and_the_rest_is_for_people(api: CannedApi, tmp_path: Path) -> None:
    api.answers[f"POST {URL}"] = (201, HOOK | {"secret": "whsec_abc"})
    api.answers[f"POST {URL}/w1/rotate-secret"] = HOOK | {"secret": "whsec_new"}
    status, out, err = call(
        api, tmp_path, "webhooks", "add", "https://example.com/x", "--event", "job.failed"
    )
    assert (status, out) == (0, "whsec_abc\n")
    assert "w1" in err
    assert api.asked[0] == (
        f"POST {URL}", {"url": "https://example.com/x", "events": ["job.failed"], "description": None},
    )  # fmt: skip
    assert call(api, tmp_path, "webhooks", "rotate", "w1")[1] == "whsec_new\n"
    told = call(api, tmp_path, "webhooks", "rotate", "w1", "--json")[1]
    assert json.loads(told) == HOOK | {"secret": "whsec_new"}


def test_a_test_tells_how_it_went(api: CannedApi, tmp_path: Path) -> None:
    answer = {
        "delivered": True,
        "message_id": "m",
        "status": 204,
        "error": None,
        "milliseconds": 1200,
        "body": "",
    }
    api.answers[f"POST {URL}/w1/test"] = answer
    assert call(api, tmp_path, "webhooks", "test", "w1") == (0, "delivered: 204 after 1,200 ms\n", "")
    api.answers[f"POST {URL}/w1/test"] = answer | {
        "delivered": False, "status": 401, "error": "the receiver answered 401", "body": "who?",
    }  # fmt: skip
    assert call(api, tmp_path, "webhooks", "test", "w1") == (
        1, "the receiver answered 401, after 1,200 ms\nwho?\n", "",
    )  # fmt: skip


def test_deliveries_are_listed_as_asked(api: CannedApi, tmp_path: Path) -> None:
    api.answers[f"GET {URL}/w1/deliveries"] = listed(WAITING, SENT)
    status, out, err = call(
        api, tmp_path, "webhooks", "deliveries", "w1", "--state", "waiting", "--event", "job.failed"
    )
    rows = [line.split() for line in out.splitlines()]
    assert rows[1][:6] == ["7", "job.failed", "waiting", "2", "2026-11-20T09:00:00", "2026-11-20T10:00:00"]
    assert rows[2] == ["6", "job.failed", "delivered", "2", "2026-11-20T09:00:00", "-", "-"]
    assert (status, err) == (0, "")
    assert api.asked[0][0] == f"GET {URL}/w1/deliveries?state=waiting&event=job.failed&page_size=51"
    status, out, err = call(api, tmp_path, "webhooks", "deliveries", "w1", "--limit", "1", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [WAITING]
    assert err == "there are more: --limit\n"


def test_a_replay_says_which(api: CannedApi, tmp_path: Path) -> None:
    api.answers[f"POST {URL}/w1/replay"] = (202, {"replayed": 3})
    api.answers[f"POST {URL}/w1/deliveries/7/replay"] = (202, WAITING)
    assert call(api, tmp_path, "webhooks", "replay", "w1")[0] == 2
    assert call(api, tmp_path, "webhooks", "replay", "w1", "--delivery", "7") == (0, "", "sent again: 1\n")
    assert call(api, tmp_path, "webhooks", "replay", "w1", "--since", "36h") == (0, "", "sent again: 3\n")
    body = api.asked[-1][1]
    ago = datetime.now(UTC) - datetime.fromisoformat(body["since"])
    assert timedelta(hours=36) <= ago < timedelta(hours=36, minutes=5)
    assert body["state"] == "failed"
    call(
        api,
        tmp_path,
        "webhooks",
        "replay",
        "w1",
        "--since",
        "2026-01-01",
        "--until",
        "x",
        "--state",
        "delivered",
    )
    assert api.asked[-1][1] == {"since": "2026-01-01", "until": "x", "state": "delivered"}


def test_the_other_acts_ask_for_what_they_say(api: CannedApi, tmp_path: Path) -> None:
    api.answers |= {f"DELETE {URL}/w1": (204, b""), f"PATCH {URL}/w1": HOOK}
    assert call(api, tmp_path, "webhooks", "rm", "w1") == (0, "", "deleted\n")
    assert call(api, tmp_path, "webhooks", "enable", "w1")[0] == 0
    assert api.asked == [(f"DELETE {URL}/w1", None), (f"PATCH {URL}/w1", {"enabled": True})]
