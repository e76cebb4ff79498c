"""A file that is dropped into a bucket is read, and its results lie beside it: real servers, real processes."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import orjson
import pytest
from fleet_builders import check_record, sql, wait_for
from images import encoded, noise, pixel_hash

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.errors import InputNotFound

PATIENCE = 120.0
JOB = {"task": "text", "output": {"per_item": True, "prefix": "results/"}}


class Relay(ThreadingHTTPServer):
    """Where SeaweedFS posts its events: an address that is known before the API has one, to which it passes them on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.statuses = "", list[int]()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: Relay  # type: ignore[assignment]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 503
        if self.server.target:
            headers = {"Authorization": self.headers["Authorization"]}
            status = httpx.post(self.server.target, content=body, headers=headers, timeout=30).status_code
            self.server.statuses.append(status)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """No line for each event."""


TOKEN = "ocre_of-the-filer"  # noqa: S105 (a test's own)
NOTIFICATION = """
[notification.webhook]
enabled = true
endpoint = "http://127.0.0.1:{port}/"
bearer_token = "{token}"
backoff_seconds = 1
event_types = ["create", "update", "rename"]
path_prefixes = ["/buckets/"]
"""


@pytest.fixture(scope="module")
def relay() -> Iterator[Relay]:
    relay = Relay()
    yield relay
    relay.shutdown()
    relay.server_close()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, relay: Relay) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "s3").mkdir(mode=0o700)
    (folder / "s3" / "notification.toml").write_text(NOTIFICATION.format(port=relay.server_port, token=TOKEN))
    quick = {"OCRFLEET_RULE_JOB_SECONDS": "2"}
    with Fleet(folder, engine="null", services=("api", "producer", "worker"), extra=quick) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def http(fleet: Fleet) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {fleet.environment['OCRFLEET_API_KEY']}"}
    with httpx.Client(base_url=fleet.urls["api"], headers=headers, timeout=60) as http:
        yield http


def make(http: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    answer = http.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def make_rule(http: httpx.Client, name: str, **members: Any) -> dict[str, Any]:
    return make(http, "/v1/bucket-rules", name=name, prefix=f"{name}/", job=JOB, **members)


def listed(http: httpx.Client, rule: dict[str, Any]) -> bool:
    """Whether the rule's first listing is over: from then on only an event, or the next one, finds anything."""
    shown = http.get(f"/v1/bucket-rules/{rule['id']}").json()
    return shown["rescan_at"] > rule["rescan_at"]


def drop(bucket: Blobs, key: str, number: int) -> tuple[str, str]:
    """Put an image; returns its ETag and what the engine says of it."""
    data = encoded(noise(number), "PNG")
    return bucket.put("ocr", key, data, "image/png").etag, pixel_hash(data)


def output(bucket: Blobs, key: str) -> dict[str, Any] | None:
    try:
        return orjson.loads(bucket.fetch("ocr", key, max_bytes=1_000_000).data)
    except InputNotFound:
        return None


def assert_written(record: Database, bucket: Blobs, key: str, etag: str, said: str) -> None:
    """The results lie in the bucket and in the record, of one item only, whose job completes."""
    found = wait_for(lambda: output(bucket, f"results/{key}.json"), PATIENCE)
    assert (found["bucket"], found["key"], found["etag"], found["custom_id"]) == ("ocr", key, etag, None)
    (page,) = found["pages"]
    assert (page["page"], page["state"], page["text"], page["job_id"]) == (
        1,
        "succeeded",
        said,
        found["job_id"],
    )
    query = """
        SELECT i.id, i.job_id FROM items i JOIN pages p ON p.item_id = i.id JOIN outcomes o ON o.page_id = p.id
        WHERE i.key = :key AND o.state = 'succeeded'"""
    (row,) = sql(record, query, key=key)
    assert (str(row.id), str(row.job_id)) == (found["item_id"], found["job_id"])
    ended = "SELECT 1 FROM jobs WHERE id = :job AND state = 'completed' AND output_leased_until IS NULL"
    wait_for(lambda: sql(record, ended, job=row.job_id), PATIENCE)
    check_record(record, row.job_id)
    assert sql(record, "SELECT count(*) FROM items WHERE key LIKE 'results/%'")[0][0] == 0


def test_a_file_of_which_minio_tells_is_read_and_its_results_lie_beside_it(
    http: httpx.Client, record: Database, bucket: Blobs
) -> None:
    rule, source = make_rule(http, "told"), make(http, "/v1/event-sources", name="minio")
    wait_for(lambda: listed(http, rule), PATIENCE)
    key = "told/a b+ü.png"
    etag, said = drop(bucket, key, 1)
    event = {
        "EventName": "s3:ObjectCreated:Put",
        "Key": f"ocr/{key}",
        "Records": [
            {
                "eventName": "s3:ObjectCreated:Put",
                "s3": {
                    "bucket": {"name": "ocr"},
                    "object": {"key": quote_plus(key), "size": 5, "eTag": etag, "sequencer": "17A2C3"},
                },
            }
        ],
    }
    own = {"Authorization": f"Bearer {source['token']}"}
    for changed in ({}, {}, {"sequencer": "17A2C4"}):
        event["Records"][0]["s3"]["object"] |= changed
        assert http.post(source["path"], json=event, headers=own).status_code == 204
    assert_written(record, bucket, key, etag, said)
    waiting = "SELECT count(*) FROM bucket_events WHERE handled_at IS NULL AND fault IS NULL"
    wait_for(lambda: sql(record, waiting)[0][0] == 0, PATIENCE)
    assert sql(record, "SELECT count(*) FROM items WHERE key = :key", key=key)[0][0] == 1


def test_a_file_of_which_nobody_tells_is_found_by_the_next_listing(
    http: httpx.Client, record: Database, bucket: Blobs
) -> None:
    rule = make_rule(http, "untold", rescan_seconds=10)
    wait_for(lambda: listed(http, rule), PATIENCE)
    etag, said = drop(bucket, "untold/b.png", 2)
    assert_written(record, bucket, "untold/b.png", etag, said)


def test_seaweedfs_tells_by_itself(
    http: httpx.Client, record: Database, bucket: Blobs, fleet: Fleet, relay: Relay
) -> None:
    rule = make_rule(http, "weed")
    wait_for(lambda: listed(http, rule), PATIENCE)
    query = """
        INSERT INTO event_sources (tenant_id, name, token_sha256) SELECT id, 'weed', :digest FROM tenants"""
    sql(record, query, digest=hashlib.sha256(TOKEN.encode()).digest())
    relay.target = f"{fleet.urls['api']}/v1/bucket-events/weed"
    etag, said = drop(bucket, "weed/c d+ü.png", 3)
    assert_written(record, bucket, "weed/c d+ü.png", etag, said)
    assert set(relay.statuses) == {204}
    query = "SELECT e.* FROM bucket_events e JOIN event_sources s ON s.id = e.source_id AND s.name = 'weed'"
    rows = sql(record, query)
    assert "weed/c d+ü.png" in {row.key for row in rows if row.handled_at}
    assert [row.fault for row in rows if row.fault] == []
    assert base64.b64encode(bytes.fromhex(etag)) in b"".join(bytes(row.raw) for row in rows)


def test_pages_of_a_document_are_together_and_in_order(http: httpx.Client, bucket: Blobs) -> None:
    samples = Path(__file__).parents[2] / "samples"
    key = "docs/report.pdf"
    bucket.put("ocr", key, (samples / "report-text.pdf").read_bytes(), "application/pdf")
    bucket.put("ocr", "docs/encrypted.pdf", (samples / "encrypted.pdf").read_bytes(), "application/pdf")
    given = {"input": {"type": "prefix", "prefix": "docs/"}, "task": "text"}
    answer = http.post("/v1/jobs", json=given | {"output": {"per_item": True, "prefix": "out/"}})
    assert answer.status_code == 202
    whole = wait_for(lambda: output(bucket, f"out/{key}.json"), PATIENCE)
    assert len(whole["pages"]) > 1
    assert [page["page"] for page in whole["pages"]] == list(range(1, len(whole["pages"]) + 1))
    broken = wait_for(lambda: output(bucket, "out/docs/encrypted.pdf.json"), PATIENCE)
    (page,) = broken["pages"]
    assert (page["page"], page["state"], page["error"]["code"]) == (None, "dead", "encrypted_pdf")
