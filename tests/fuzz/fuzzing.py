"""schemathesis against a served API: no failure of the server's, and no answer outside the OpenAPI document."""

import secrets
import sys
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg

from ocrfleet.embedded.fleet import Fleet

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# Of what a call may answer by its nature when all servers are well: the interactive lane is full, or its page too slow.
# And whoever follows the answers of others must not revoke the very key that it calls with, or slow its tenant down.
CONFIG = """
hooks = "{hooks}"
[phases.stateful]
max-steps = 50
[[operations]]
include-path = "/v1/ocr"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "503", "504"]
[[operations]]
include-name = "DELETE /v1/api-keys/{{key_id}}"
phases.stateful.enabled = false
[[operations]]
include-name = "PATCH /v1/tenants/{{tenant_id}}"
phases.stateful.enabled = false
"""


def fleet(folder: Path) -> Fleet:
    """A whole fleet, so that what is submitted is carried out."""
    extra = {
        "OCRFLEET_SYNC_WAIT": "5",
        "OCRFLEET_WEBHOOK_HTTP": "true",
        "OCRFLEET_WEBHOOK_NETWORKS": "127.0.0.0/8",
    }
    return Fleet(folder, engine="null", services=("api", "producer", "worker"), extra=extra)


def unbind(running: Fleet) -> None:
    """Take away the limits that an earlier run has given the tenants; the API knows of it within five seconds."""
    with psycopg.connect(running.urls["postgres"], autocommit=True) as connection:
        connection.execute(
            """UPDATE tenants SET buckets = NULL, weight = 1, pages_per_day = NULL, bytes_per_day = NULL,
               jobs_open = NULL, requests_per_minute = NULL"""
        )


def populate(running: Fleet) -> dict[str, list[str]]:
    """Make one of everything; the ids, by the part of the path before them."""
    environment = running.environment
    headers = {"Authorization": f"Bearer {environment['OCRFLEET_API_KEY']}"}
    with httpx.Client(base_url=environment["OCRFLEET_URL"], headers=headers, timeout=30) as http:

        def make(path: str, **body: Any) -> str:
            answer = http.post(path, **body if "files" in body else {"json": body})
            assert answer.status_code < 300, answer.text
            return answer.json()["id"]

        def listed(path: str) -> list[str]:
            return [row["id"] for row in http.get(path).json()["data"]]

        unbind(running)
        asked = {"input": {"type": "prefix", "bucket": "ocr", "prefix": "nothing/"}}
        while not http.post("/v1/jobs", json={**asked, "validate_only": True}).is_success:
            pass
        name = secrets.token_hex(4)
        objects = [{"bucket": "ocr", "key": "missing.png"}, {"bucket": "ocr", "key": "missing.pdf"}]
        job = make("/v1/jobs", input={"type": "objects", "objects": objects})
        while http.get(f"/v1/jobs/{job}?wait=10").json()["state"] != "completed":
            pass
        waiting = make("/v1/jobs", **asked)
        line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": []}}
        file = make("/v1/files", files={"file": ("a.jsonl", orjson.dumps(line))}, data={"purpose": "batch"})
        batch = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        hook = make("/v1/webhooks", url="http://127.0.0.1/hook", events=["job.completed"])
        return {
            "jobs": [job, waiting],
            "exports": [make(f"/v1/jobs/{job}/exports", format="jsonl")],
            "items": listed(f"/v1/jobs/{job}/items"),
            "dead-letters": listed(f"/v1/dead-letters?job_id={job}"),
            "redrives": [make("/v1/redrives", filter={"job_id": job}, reason="fuzz")],
            "uploads": [make("/v1/uploads", filename="a.png", bytes=10)],
            "files": [file],
            "batches": [make("/v1/batches", **batch)],
            "webhooks": [hook],
            "deliveries": listed(f"/v1/webhooks/{hook}/deliveries"),
            "event-sources": [make("/v1/event-sources", name=name)],
            "bucket-rules": [make("/v1/bucket-rules", name=name, bucket="ocr", prefix=f"{name}/", job={})],
            "api-keys": [make("/v1/api-keys", name=name)],
            "tenants": [make("/v1/tenants", name=name)],
        }


def command(
    running: Fleet, folder: Path, *, examples: int, phases: tuple[str, ...], seed: int = 1
) -> list[str]:
    """Up to so many requests for each operation and phase; those of `coverage` are as many as the document has corners."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(hooks=Path(__file__).with_name("hooks.py")))
    (folder / "made.json").write_bytes(orjson.dumps(populate(running)))
    url, key = running.environment["OCRFLEET_URL"], running.environment["OCRFLEET_API_KEY"]
    return [
        str(Path(sys.executable).parent / "schemathesis"),
        f"--config-file={config}",
        "run",
        f"{url}/openapi.json",
        f"--header=Authorization: Bearer {key}",
        f"--checks={','.join(CHECKS)}",
        f"--phases={','.join(phases)}",
        f"--max-examples={examples}",
        f"--seed={seed}",
        "--generation-database=none",
        "--suppress-health-check=all",
        "--request-timeout=60",
        "--continue-on-failure",
        "--warnings=off",
        "--no-color",
    ]


def operations(running: Fleet) -> int:
    """How many the document has."""
    document = httpx.get(f"{running.environment['OCRFLEET_URL']}/openapi.json").json()
    return sum(len(methods) for methods in document["paths"].values())
