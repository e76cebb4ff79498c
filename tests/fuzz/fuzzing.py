"""schemathesis against a served API: no failure of the server's, and no answer outside the OpenAPI document."""

import sys
from pathlib import Path

import httpx

from ocrfleet.embedded.fleet import Fleet

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
PHASES = ("examples", "coverage", "fuzzing", "stateful")
# Of what a call may answer by its nature when all servers are well: the interactive lane is full, or its page too slow.
# And whoever follows the answers of others must not revoke the very key that it calls with, or slow its tenant down.
CONFIG = """
[[operations]]
include-path = "/v1/ocr"
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", "503", "504"]
[[operations]]
include-name = "DELETE /v1/api-keys/{key_id}"
phases.stateful.enabled = false
[[operations]]
include-name = "PATCH /v1/tenants/{tenant_id}"
phases.stateful.enabled = false
"""


def fleet(folder: Path) -> Fleet:
    """A whole fleet, so that what is submitted is carried out."""
    extra = {"OCRFLEET_SYNC_WAIT": "5"}
    return Fleet(folder, engine="null", services=("api", "producer", "worker"), extra=extra)


def command(
    running: Fleet, folder: Path, *, examples: int, phases: tuple[str, ...] = PHASES, seed: int = 1
) -> list[str]:
    """Up to so many requests for each operation and phase; those of `coverage` are as many as the document has corners."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
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
