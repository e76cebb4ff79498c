"""The commands about buckets that are read unasked, and the notification that they set on one."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import fromstring

import pytest
from canned_api import CannedApi, call
from pydantic import SecretStr

from ocrfleet.cli.bucket_rules import notify, store
from ocrfleet.client.buckets import BucketRule
from ocrfleet.errors import InputNotFound, ValidationFailed
from ocrfleet.settings import Settings

RULE: dict[str, Any] = {
    "id": "7",
    "name": "invoices",
    "bucket": "scans",
    "prefix": "in/",
    "suffix": ".pdf",
    "job": {"task": "text", "output": {"per_item": True, "prefix": "results/"}},
    "enabled": True,
    "rescan_seconds": 900,
    "rescan_at": "2026-11-20T09:00:00Z",
    "rescan_fault": "input_not_found: no bucket",
    "open_job_id": None,
    "created_at": "2026-11-20T09:00:00Z",
}
SOURCE = {
    "id": "3",
    "name": "minio",
    "created_at": "2026-11-20T09:00:00Z",
    "token": "ocre_secret",
    "path": "/v1/bucket-events/minio",
}
EVENT = {
    "id": "5",
    "source": "minio",
    "bucket": None,
    "key": None,
    "version_id": None,
    "etag": None,
    "bytes": None,
    "fault": "is not JSON",
    "raw": "{",
    "received_at": "2026-11-20T09:00:00Z",
    "handled_at": None,
}  # fmt: skip


def page(*members: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(members), "next_page_token": None}


@pytest.fixture
def api() -> Iterator[CannedApi]:
    answers = {
        "GET /v1/bucket-rules": page(RULE),
        "POST /v1/bucket-rules": (201, RULE),
        "PATCH /v1/bucket-rules/7": RULE,
        "DELETE /v1/bucket-rules/7": RULE,
        "GET /v1/event-sources": page(SOURCE),
        "POST /v1/event-sources": (201, SOURCE),
        "DELETE /v1/event-sources/3": SOURCE,
        "GET /v1/bucket-events": page(EVENT),
    }
    with CannedApi(answers) as api:
        yield api


def asked(api: CannedApi, method: str) -> tuple[str, Any]:
    return next((path, body) for path, body in api.asked if path.startswith(method))


def test_rules_are_listed_with_what_is_wrong(api: CannedApi, tmp_path: Path) -> None:
    code, out, _ = call(api, tmp_path, "rules", "ls")
    assert code == 0
    assert all(word in out for word in ("invoices", "in/", ".pdf", "results/*.json", "no bucket"))
    code, out, _ = call(api, tmp_path, "rules", "ls", "--json")
    assert json.loads(out) == RULE


def test_a_rule_is_made_of_an_address_and_options(api: CannedApi, tmp_path: Path) -> None:
    arguments = (
        "rules",
        "add",
        "invoices",
        "s3://scans/in/",
        "--suffix",
        ".pdf",
        "--label",
        "a=b",
        "--rescan",
        "60",
    )
    code, out, err = call(api, tmp_path, *arguments)
    assert (code, out) == (0, "7\n")
    assert "bucket-rules set invoices" in err
    _, body = asked(api, "POST")
    assert body == {
        "name": "invoices",
        "bucket": "scans",
        "prefix": "in/",
        "suffix": ".pdf",
        "enabled": True,
        "rescan_seconds": 60,
        "job": {"task": "text", "labels": {"a": "b"}, "output": {"per_item": True, "prefix": "results/"}},
    }


@pytest.mark.parametrize(
    ("act", "method", "body"),
    [
        ("enable", "PATCH", {"enabled": True}),
        ("disable", "PATCH", {"enabled": False}),
        ("rm", "DELETE", None),
    ],
)
def test_a_rule_is_switched_and_deleted_by_its_name(
    api: CannedApi,
    tmp_path: Path,
    act: str,
    method: str,
    body: Any,  # noqa: ANN401
) -> None:
    code, _, _ = call(api, tmp_path, "rules", act, "invoices")
    assert code == 0
    assert asked(api, method) == (f"{method} /v1/bucket-rules/7", body)
    api.answers["GET /v1/bucket-rules"] = page()
    code, _, err = call(api, tmp_path, "rules", act, "none")
    assert code == 5
    assert "there is no rule 'none'" in err


def test_sources_and_what_they_told(api: CannedApi, tmp_path: Path) -> None:
    code, out, err = call(api, tmp_path, "events", "add-source", "minio")
    assert (code, out) == (0, "ocre_secret\n")
    assert f"{api.url}/v1/bucket-events/minio" in err
    code, out, _ = call(api, tmp_path, "events", "ls", "--quarantined")
    assert code == 0
    assert "refused: is not JSON" in out
    assert "quarantined=true" in asked(api, "GET /v1/bucket-events")[0]
    assert call(api, tmp_path, "events", "sources")[0] == 0
    assert call(api, tmp_path, "events", "rm-source", "minio")[0] == 0
    assert call(api, tmp_path, "events", "rm-source", "none")[0] == 5


class Bucket(ThreadingHTTPServer):
    """The part of an S3 store that keeps a bucket's notifications, without looking at signatures."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.kept = (
            b"<NotificationConfiguration><QueueConfiguration><Id>other</Id><Queue>arn:minio:sqs::x:amqp</Queue>"
            b"<Event>s3:ObjectRemoved:*</Event></QueueConfiguration></NotificationConfiguration>"
        )
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Bucket  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"

    def _answer(self, body: bytes = b"") -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        assert urlsplit(self.path).query.startswith("notification")
        self._answer(self.server.kept)

    def do_PUT(self) -> None:
        assert urlsplit(self.path).query.startswith("notification")
        self.server.kept = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def log_message(self, *_: object) -> None:
        pass


def rule(**members: Any) -> BucketRule:
    return BucketRule(**RULE | members)  # type: ignore[typeddict-item]


def entries(kept: bytes) -> dict[str, list[str]]:
    """By id, all that an entry says."""
    found = fromstring(kept)  # noqa: S314 (our own)
    return {
        next(one.text or "" for one in entry if one.tag.endswith("Id")): [one.text for one in entry.iter() if one.text]
        for entry in found
    }  # fmt: skip


def test_a_notification_is_set_beside_those_that_are_there() -> None:
    with Bucket() as bucket:
        address = f"http://127.0.0.1:{bucket.server_address[1]}"
        client = store(Settings(store_url=address, store_secret_key=SecretStr("secret-secret")))
        for suffix in (".png", ".pdf"):
            notify(client, rule(suffix=suffix), "arn:minio:sqs::ocrfleet:webhook")
        notify(client, rule(name="topic", prefix="", suffix=""), "arn:aws:sns:eu-central-1:1:ocr")
        bucket.shutdown()
    found = entries(bucket.kept)
    assert set(found) == {"other", "ocrfleet-invoices", "ocrfleet-topic"}
    assert {"arn:minio:sqs::ocrfleet:webhook", "s3:ObjectCreated:*", "in/", ".pdf"} <= set(
        found["ocrfleet-invoices"]
    )
    assert ".png" not in found["ocrfleet-invoices"]


def test_a_store_without_notifications_is_told_from_one_with_them(s3: Settings) -> None:
    with pytest.raises(ValidationFailed, match=r"notification\.toml") as refused:
        notify(store(s3), rule(bucket="ocr"), "arn:minio:sqs::ocrfleet:webhook")
    assert '"/buckets/ocr/in/"' in refused.value.detail
    with pytest.raises(InputNotFound):
        notify(store(s3), rule(bucket="not-there"), "arn:minio:sqs::ocrfleet:webhook")
    assert not store(s3).bucket_exists("not-there")
