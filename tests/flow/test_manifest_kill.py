"""A producer that is killed in the middle of a manifest, again and again: the next one goes on, nothing stands twice."""

import gzip
import signal
import subprocess
import sys
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from fleet_builders import check_record, job, results, sql, submit_manifest, wait_for

from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.settings import Settings, child_environment

LINES = 500
CHUNK = 100


def as_csv() -> bytes:
    """Every fifth row has a line end in a quoted cell; row 42 has a cell too many."""
    rows = [b'%d.png,"x\ny"' % n if n % 5 == 0 else b"%d.png,z" % n for n in range(LINES)]
    rows[42] += b",more"
    return b"key,custom_id\n" + b"\n".join(rows)


def as_json() -> bytes:
    lines = [b'{"key":"%d.png"}' % n for n in range(LINES)]
    lines[42] = b'{"key":42}'
    return b"\n".join(lines)


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("m.jsonl", as_json, 43),
        ("m.csv", as_csv, 53),
        ("m.csv.gz", lambda: gzip.compress(as_csv()), 53),
    ],
    ids=["jsonl", "csv", "csv.gz"],
)
def test_a_manifest_is_expanded_once_whoever_is_killed(
    database: Database,
    database_url: str,
    s3: Settings,
    store: Blobs,
    broker_url: str,
    name: str,
    data: Callable[[], bytes],
    line: int,
) -> None:
    key = f"kills/{uuid4().hex}/{name}"
    store.put("ocr", key, data(), "application/octet-stream")
    job_id = submit_manifest(database, key)
    environment = {
        "OCRFLEET_DATABASE_URL": database_url,
        "OCRFLEET_BROKER_URL": broker_url,
        "OCRFLEET_STORE_URL": s3.store_url,
        "OCRFLEET_STORE_ACCESS_KEY": s3.store_access_key,
        "OCRFLEET_STORE_SECRET_KEY": s3.store_secret_key.get_secret_value(),
        "OCRFLEET_EXPAND_CHUNK": str(CHUNK),
    }
    kills = 0
    while job(database, job_id).listed_at is None:
        # Each dies behind its second chunk; the next need not wait for the lease to run out.
        sql(database, "UPDATE jobs SET expansion_leased_until = now()")
        armed = child_environment(**environment, OCRFLEET_FAILPOINTS="expand.chunk=exit@2")
        with subprocess.Popen([sys.executable, "-m", "producer"], env=armed) as producer:
            wait_for(lambda: producer.poll() is not None or job(database, job_id).listed_at, patience=120)
            if producer.poll() is None:
                producer.send_signal(signal.SIGTERM)
            kills += producer.wait(60) == -signal.SIGKILL
    assert kills >= 2
    assert_whole(database, job_id, line)


def assert_whole(database: Database, job_id: UUID, line: int) -> None:
    rows = sql(database, "SELECT key, ordinal FROM items WHERE job_id = :job ORDER BY ordinal", job=job_id)
    keys = [f"line {line}" if n == 42 else f"{n}.png" for n in range(LINES)]
    assert [row.key for row in rows] == keys
    (fault,) = results(database, job_id)
    assert (fault["error"]["code"], fault["error"]["line"]) == ("manifest_invalid", line)
    assert job(database, job_id).total == LINES
    check_record(database, job_id)
