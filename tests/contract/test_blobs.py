"""The object store on real S3 servers: every method, and every error of a healthy store."""

import io
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from minio import Minio
from minio.commonconfig import ENABLED
from minio.versioningconfig import VersioningConfig
from pydantic import SecretStr

from ocrfleet import errors
from ocrfleet.blobs import Blobs, connect
from ocrfleet.embedded.probes import is_ready
from ocrfleet.embedded.state import State
from ocrfleet.s3 import PART, BadName
from ocrfleet.settings import Settings

BUCKET = "contract"
LIMIT = 32 * 1024 * 1024


@pytest.fixture(scope="module")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    binary = shutil.which("minio")
    if binary is None:
        pytest.skip("NOT TESTED ON MINIO: there is no minio program on PATH")
    home = tmp_path_factory.mktemp("minio")
    address = f"127.0.0.1:{State(home).port('minio')}"
    argv = [binary, "server", str(home / "data"), "--address", address]
    env = {"MINIO_ROOT_USER": "ocrfleet", "MINIO_ROOT_PASSWORD": "contract-secret", "HOME": str(home)}
    with (home / "log").open("wb") as log, subprocess.Popen(argv, env=env, stdout=log, stderr=log) as process:
        try:
            while not is_ready(f"http://{address}/minio/health/ready", process.pid):
                assert process.poll() is None, (home / "log").read_text()
            secret = SecretStr(env["MINIO_ROOT_PASSWORD"])
            yield Settings(
                store_url=f"http://{address}", store_access_key="ocrfleet", store_secret_key=secret
            )
        finally:
            process.kill()


@pytest.fixture(scope="module", params=["s3", "minio_server"], ids=["seaweedfs", "minio"])
def server(request: pytest.FixtureRequest) -> Settings:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def blobs(server: Settings) -> Blobs:
    store = connect(server.model_copy(update={"bucket": BUCKET}))
    store.ensure_bucket(BUCKET)
    return store


def sdk(server: Settings) -> Minio:
    netloc, secret = urlsplit(server.store_url).netloc, server.store_secret_key.get_secret_value()
    return Minio(netloc, server.store_access_key, secret, secure=False)


def open_stream(blobs: Blobs, bucket: str, key: str) -> bytes:
    with blobs.stream(bucket, key) as stream:
        return b"".join(stream.chunks)


READS: dict[str, Callable[[Blobs, str, str], object]] = {
    "stat": lambda blobs, bucket, key: blobs.stat(bucket, key),
    "fetch": lambda blobs, bucket, key: blobs.fetch(bucket, key, max_bytes=LIMIT),
    "stream": open_stream,
}
each_read = pytest.mark.parametrize("read", READS.values(), ids=READS)


@pytest.mark.parametrize("data", [b"", b"scan", b"x" * (PART + 1)], ids=["empty", "small", "in parts"])
def test_fetch_returns_what_was_put_with_what_stat_tells(blobs: Blobs, data: bytes) -> None:
    put = blobs.put(BUCKET, "round/trip.jpg", data, "image/jpeg")
    fetched = blobs.fetch(BUCKET, "round/trip.jpg", max_bytes=LIMIT, etag=put.etag)
    assert fetched.data == data
    assert fetched.info == blobs.stat(BUCKET, "round/trip.jpg") == put


def test_put_takes_a_file(blobs: Blobs, tmp_path: Path) -> None:
    file = tmp_path / "scan.png"
    file.write_bytes(b"from a file")
    blobs.put(BUCKET, "file.png", file, "image/png")
    assert blobs.fetch(BUCKET, "file.png", max_bytes=LIMIT).data == b"from a file"


@pytest.mark.parametrize("key", ["发票/二零二六 年.pdf", "a+b%20c&d=e?f#g.png", "quote\"'<x>.tif"])
def test_keys_with_unusual_characters_survive(blobs: Blobs, key: str) -> None:
    prefix = f"odd/{len(key)}/"
    blobs.put(BUCKET, prefix + key, b"odd", "image/png")
    assert [info.key for info in blobs.scan(BUCKET, prefix)] == [prefix + key]
    assert blobs.fetch(BUCKET, prefix + key, max_bytes=LIMIT).data == b"odd"


def test_fetch_refuses_an_object_over_the_limit_and_the_connection_stays_usable(blobs: Blobs) -> None:
    blobs.put(BUCKET, "large.pdf", b"x" * 100_001, "application/pdf")
    for _ in range(3):
        with pytest.raises(errors.FileTooLarge, match="100001 bytes, the limit is 100000") as caught:
            blobs.fetch(BUCKET, "large.pdf", max_bytes=100_000)
        assert caught.value.extra == {"limit": 100_000, "actual": 100_001}
        assert len(blobs.fetch(BUCKET, "large.pdf", max_bytes=100_001).data) == 100_001


@pytest.mark.parametrize("offset", [0, 3])
def test_a_replaced_object_is_not_read(blobs: Blobs, offset: int) -> None:
    old = blobs.put(BUCKET, "replaced.jpg", b"first content", "image/jpeg")
    blobs.put(BUCKET, "replaced.jpg", b"other content", "image/jpeg")
    with pytest.raises(errors.InputChanged):
        blobs.fetch(BUCKET, "replaced.jpg", max_bytes=LIMIT, etag=old.etag)
    with (
        pytest.raises(errors.InputChanged),
        blobs.stream(BUCKET, "replaced.jpg", offset=offset, etag=old.etag),
    ):
        pass


def test_a_version_is_read_though_a_newer_one_stands_above_it(blobs: Blobs, server: Settings) -> None:
    blobs.ensure_bucket("versions")
    client = sdk(server)
    client.set_bucket_versioning("versions", VersioningConfig(ENABLED))
    old = blobs.put("versions", "a.jpg", b"old", "image/jpeg")
    blobs.put("versions", "a.jpg", b"new", "image/jpeg")
    assert old.version_id
    read = blobs.fetch("versions", "a.jpg", max_bytes=LIMIT, etag=old.etag, version_id=old.version_id)
    assert read.data == b"old"
    assert read.info.version_id == old.version_id


@each_read
def test_what_is_missing_is_not_found(blobs: Blobs, read: Callable[[Blobs, str, str], object]) -> None:
    for bucket, key in [
        (BUCKET, "missing.pdf"),
        ("no-such-bucket", "a.pdf"),
        ("Not A Bucket", "a.pdf"),
        (BUCKET, ""),
    ]:
        with pytest.raises(errors.InputNotFound):
            read(blobs, bucket, key)


def test_scanning_a_missing_bucket_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(errors.InputNotFound):
        list(blobs.scan("no-such-bucket", ""))


@pytest.mark.parametrize("key", ["./a.jpg", "a/../b.jpg", "a/.", " "])
def test_a_name_that_no_store_holds_is_told_from_one_that_is_not_there(blobs: Blobs, key: str) -> None:
    for call in (lambda: blobs.put(BUCKET, key, b"x", "image/jpeg"), lambda: blobs.stat(BUCKET, key)):
        with pytest.raises(BadName) as caught:
            call()
        assert caught.value.code == "input_not_found"
    with pytest.raises(errors.InputNotFound) as missing:
        blobs.stat(BUCKET, "missing.jpg")
    assert type(missing.value) is errors.InputNotFound


@each_read
def test_wrong_keys_are_denied(server: Settings, read: Callable[[Blobs, str, str], object]) -> None:
    stranger = connect(server.model_copy(update={"store_secret_key": SecretStr("wrong")}))
    with pytest.raises(errors.InputAccessDenied):
        read(stranger, BUCKET, "a.pdf")


def test_writing_and_listing_with_wrong_keys_is_denied(server: Settings) -> None:
    stranger = connect(server.model_copy(update={"store_access_key": "nobody", "bucket": BUCKET}))
    for call in (
        lambda: list(stranger.scan(BUCKET, "")),
        lambda: stranger.put(BUCKET, "a.jpg", b"x", "image/jpeg"),
        lambda: stranger.remove(BUCKET, "a.jpg"),
        lambda: stranger.ensure_bucket(BUCKET),
        stranger.ping,
    ):
        with pytest.raises(errors.InputAccessDenied):
            call()


@pytest.mark.parametrize("offset", [0, 1, 999_999, 1_000_000])
def test_a_stream_begins_at_any_byte_and_knows_the_whole_size(blobs: Blobs, offset: int) -> None:
    data = bytes(range(250)) * 4000
    put = blobs.put(BUCKET, "manifest.jsonl", data, "application/jsonl")
    with blobs.stream(BUCKET, "manifest.jsonl", offset=offset, etag=put.etag) as stream:
        assert stream.info == put
        assert b"".join(stream.chunks) == data[offset:]


def test_a_stream_left_early_disturbs_no_later_read(blobs: Blobs) -> None:
    blobs.put(BUCKET, "left.jsonl", b"y" * 5_000_000, "application/jsonl")
    for _ in range(3):
        with blobs.stream(BUCKET, "left.jsonl") as stream:
            assert next(stream.chunks).startswith(b"yyy")
    blobs.put(BUCKET, "after.txt", b"after", "text/plain")
    assert blobs.fetch(BUCKET, "after.txt", max_bytes=LIMIT).data == b"after"


def test_what_a_consumer_of_a_stream_raises_is_left_as_it_is(blobs: Blobs) -> None:
    blobs.put(BUCKET, "one.jsonl", b"{}", "application/jsonl")
    with pytest.raises(ValueError, match="line 1"), blobs.stream(BUCKET, "one.jsonl"):
        raise ValueError("line 1")


def test_scan_lists_more_than_one_page_in_order_and_resumes(blobs: Blobs, server: Settings) -> None:
    client = sdk(server)
    keys = [f"many/{number:05}.jpg" for number in range(1205)]

    def put(key: str) -> None:
        client.put_object(BUCKET, key, io.BytesIO(b"x"), 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, keys))
    client.put_object(BUCKET, "many/folder/", io.BytesIO(b""), 0)
    client.put_object(BUCKET, "other/a.jpg", io.BytesIO(b"x"), 1)
    assert [info.key for info in blobs.scan(BUCKET, "many/")] == keys
    assert [info.key for info in blobs.scan(BUCKET, "many/", start_after=keys[1100])] == keys[1101:]
    assert next(blobs.scan(BUCKET, "many/")) == blobs.stat(BUCKET, keys[0])
    assert list(blobs.scan(BUCKET, "nothing/")) == []


def test_removed_is_gone_and_removing_it_again_is_quiet(blobs: Blobs) -> None:
    blobs.put(BUCKET, "gone.jpg", b"x", "image/jpeg")
    blobs.remove(BUCKET, "gone.jpg")
    blobs.remove(BUCKET, "gone.jpg")
    with pytest.raises(errors.InputNotFound):
        blobs.stat(BUCKET, "gone.jpg")


def test_ping_wants_the_bucket_that_ensure_bucket_makes_once(server: Settings) -> None:
    store = connect(server.model_copy(update={"bucket": "made-later"}))
    with pytest.raises(errors.StorageUnavailable, match="made-later"):
        store.ping()
    store.ensure_bucket("made-later")
    store.ensure_bucket("made-later")
    store.ping()
