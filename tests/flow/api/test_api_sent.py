"""Files of this machine to a fleet that is reached by its API alone, and on after an interruption."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_rig import Api, StartApi
from fleet_builders import sql
from tcp_proxy import TcpProxy

from ocrfleet import blobs
from ocrfleet.blobs import Blobs
from ocrfleet.cli import remote
from ocrfleet.cli.inputs import LocalFile, collect
from ocrfleet.cli.progress import Lines
from ocrfleet.cli.remote import Ledger, send_all
from ocrfleet.client import Client
from ocrfleet.db import Database
from ocrfleet.errors import InputNotFound, StorageUnavailable
from ocrfleet.settings import Settings

PART = 5 * 1024 * 1024
FILES = {"a.png": b"first", "b/c.pdf": b"second", "b/large.tif": b"x" * PART + b"the end", "空.txt": b"third"}


@pytest.fixture
def store(s3: Settings) -> Blobs:
    store = blobs.connect(s3)
    store.ensure_bucket(s3.bucket)
    return store


@pytest.fixture
def gate(s3: Settings) -> Iterator[TcpProxy]:
    """Before the store, for callers."""
    with TcpProxy(s3.store_url) as gate:
        yield gate


@pytest.fixture
def api(start_api: StartApi, s3: Settings, gate: TcpProxy, store: Blobs) -> Api:
    del store
    return start_api(
        store_url=s3.store_url,
        store_public_url=gate.url,
        store_access_key=s3.store_access_key,
        store_secret_key=s3.store_secret_key.get_secret_value(),
        upload_part_bytes=PART,
        max_object_bytes=PART + 100,
    )


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    key = api.http.headers["Authorization"].removeprefix("Bearer ")
    with Client(api.url, key) as client:
        yield client


@pytest.fixture
def files(tmp_path: Path) -> list[LocalFile]:
    for name, data in FILES.items():
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return collect([str(tmp_path / "scans")])


def test_files_arrive_and_are_not_sent_again(
    client: Client, store: Blobs, files: list[LocalFile], tmp_path: Path, database: Database
) -> None:
    sent = send_all(client, Ledger(tmp_path / "ledger"), files, Lines())
    assert [line.get("custom_id") for line in sent.lines] == [file.name for file in files]
    for line in sent.lines:
        data = store.fetch(line.get("bucket", ""), line["key"], max_bytes=2 * PART).data
        assert data == FILES[line.get("custom_id", "")]
    again = send_all(client, Ledger(tmp_path / "ledger"), files, Lines())
    assert again == sent
    assert len(sql(database, "SELECT 1 FROM uploads")) == len(FILES)
    files[0].path.write_bytes(b"other")
    changed = send_all(client, Ledger(tmp_path / "ledger"), files, Lines())
    assert changed.lines[0] != sent.lines[0]
    assert changed.lines[1:] == sent.lines[1:]


def test_an_interrupted_call_goes_on_with_what_is_missing(
    client: Client, files: list[LocalFile], tmp_path: Path, database: Database, gate: TcpProxy
) -> None:
    client.attempts = 1
    large = [file for file in files if file.name.endswith(".tif")]
    first = send_all(
        client, Ledger(tmp_path / "ledger"), [file for file in files if file not in large], Lines()
    )
    gate.cut()
    with pytest.raises(StorageUnavailable, match=r"large\.tif"):
        send_all(client, Ledger(tmp_path / "ledger"), files, Lines())
    gate.restore()
    # The last line of a call that was killed.
    with (tmp_path / "ledger").open("ab") as kept:
        kept.write(b'["/a", 1')
    done = send_all(client, Ledger(tmp_path / "ledger"), files, Lines())
    assert [line for line in done.lines if line in first.lines] == first.lines
    rows = sql(database, "SELECT state FROM uploads")
    assert [row.state for row in rows] == ["complete"] * len(FILES), (
        "the one that was begun is the one that ended"
    )


def test_one_that_was_removed_is_sent_again(
    client: Client, files: list[LocalFile], tmp_path: Path, api: Api
) -> None:
    before = send_all(client, Ledger(tmp_path / "ledger"), files[:1], Lines())
    upload_id = before.lines[0]["key"].split("/")[2]
    assert api.http.delete(f"/v1/uploads/{upload_id}").status_code == 204
    after = send_all(client, Ledger(tmp_path / "ledger"), files[:1], Lines())
    assert after.lines[0]["key"] != before.lines[0]["key"]


def test_what_cannot_be_taken_is_left_out_and_named(client: Client, tmp_path: Path) -> None:
    for name, size in (("empty.png", 0), ("huge.png", PART + 101), ("good.png", 5)):
        (tmp_path / name).write_bytes(b"x" * size)
    files = collect([str(tmp_path / name) for name in ("empty.png", "huge.png", "good.png")])
    sent = send_all(client, Ledger(tmp_path / "ledger"), files, Lines())
    assert [line.get("custom_id") for line in sent.lines] == ["good.png"]
    assert sent.left_out["empty.png"] == "the file is empty"
    assert str(PART + 100) in sent.left_out["huge.png"]
    with pytest.raises(InputNotFound, match="no file to submit"):
        remote.uploaded(client, tmp_path / "state", files[:1])


def test_the_files_become_one_job_whatever_their_number(
    client: Client, files: list[LocalFile], tmp_path: Path, store: Blobs
) -> None:
    given = remote.uploaded(client, tmp_path / "state", files)
    manifest = store.fetch(given["bucket"], given["key"], max_bytes=PART).data
    assert manifest.count(b"\n") == len(FILES)
    job = client.create_job(given)
    assert job["input"] == given
