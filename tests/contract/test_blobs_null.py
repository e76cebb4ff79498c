"""The store without objects, and the choice of a store by its URL."""

import hashlib
import io
import json

import pytest
from PIL import Image
from pydantic import SecretStr

from ocrfleet import errors
from ocrfleet.blobs import NullBlobs, connect
from ocrfleet.s3 import CHUNK, S3Blobs
from ocrfleet.settings import Settings

LINES = 30_000


@pytest.fixture
def blobs() -> NullBlobs:
    return NullBlobs(LINES)


def manifest(blobs: NullBlobs, offset: int = 0) -> list[bytes]:
    with blobs.stream("any", "m.jsonl", offset=offset) as stream:
        return list(stream.chunks)


def test_the_manifest_has_its_lines_in_chunks_of_bounded_size(blobs: NullBlobs) -> None:
    chunks = manifest(blobs)
    assert len(chunks) > 2
    assert max(map(len, chunks)) <= CHUNK
    lines = [json.loads(line) for line in b"".join(chunks).splitlines()]
    assert [line["key"] for line in lines] == [f"{number:012}.png" for number in range(LINES)]
    assert sum(map(len, chunks)) == blobs.stat("any", "m.jsonl").size


@pytest.mark.parametrize("offset", [0, 1, 19, 20, 21, CHUNK, CHUNK + 7, 599_999, 600_000, 600_001, 10**9])
def test_the_manifest_can_be_read_from_any_byte(blobs: NullBlobs, offset: int) -> None:
    assert b"".join(manifest(blobs, offset)) == b"".join(manifest(blobs))[offset:]


def test_a_manifest_of_a_billion_lines_is_there_at_once() -> None:
    blobs = NullBlobs(10**9)
    with blobs.stream("any", "m.jsonl", offset=blobs.stat("any", "m.jsonl").size - 40) as stream:
        assert b"".join(stream.chunks).splitlines()[-1] == b'{"key":"000999999999.png"}'


def test_any_other_key_is_a_small_image(blobs: NullBlobs) -> None:
    fetched = blobs.fetch("any", "000000000007.png", max_bytes=1000)
    assert fetched.info == blobs.stat("any", "000000000007.png")
    assert len(fetched.data) == fetched.info.size
    with Image.open(io.BytesIO(fetched.data)) as image:
        assert image.convert("L").getextrema() == (255, 255)


def test_a_scan_names_the_objects_and_resumes(blobs: NullBlobs) -> None:
    keys = [info.key for info in blobs.scan("any", "in/")]
    assert keys == [f"in/{number:012}.png" for number in range(LINES)]
    assert [info.key for info in blobs.scan("any", "in/", start_after=keys[-3])] == keys[-2:]


def test_limits_and_etags_hold_as_in_a_real_store(blobs: NullBlobs) -> None:
    with pytest.raises(errors.FileTooLarge):
        blobs.fetch("any", "m.jsonl", max_bytes=1000)
    with pytest.raises(errors.InputChanged):
        blobs.fetch("any", "a.png", max_bytes=1000, etag="other")
    with pytest.raises(errors.InputChanged), blobs.stream("any", "m.jsonl", etag="other"):
        pass


def test_the_scheme_of_the_url_chooses_the_store() -> None:
    null = connect(Settings(store_url="null://?objects=12"))
    assert isinstance(null, NullBlobs)
    assert null.objects == 12
    s3 = Settings(store_url="https://s3.example.com", store_secret_key=SecretStr("secret"))
    assert isinstance(connect(s3), S3Blobs)


def test_a_store_needs_a_secret_key() -> None:
    with pytest.raises(errors.ValidationFailed, match="OCRFLEET_STORE_SECRET_KEY"):
        connect(Settings(store_url="https://s3.example.com", store_secret_key=SecretStr("")))


@pytest.mark.parametrize("url", ["ftp://host", "127.0.0.1:9000", "", "http://", "http://host/path"])
def test_a_store_url_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(errors.ValidationFailed, match="OCRFLEET_STORE_URL"):
        connect(Settings(store_url=url))


def test_a_manifest_may_name_the_objects_it_has(blobs: NullBlobs) -> None:
    with blobs.stream("any", "in/29990-30010.jsonl", offset=blobs.width) as stream:
        lines = [json.loads(line) for line in b"".join(stream.chunks).splitlines()]
    assert [line["key"] for line in lines] == [f"{number:012}.png" for number in range(29_991, 30_010)]


def test_each_numbered_object_is_a_picture_of_its_key() -> None:
    blobs = connect(Settings(store_url="null://?objects=2&numbered=1"))
    fetched = [blobs.fetch("any", f"{number:012}.png", max_bytes=1000) for number in (0, 1, 0)]
    assert fetched[0].data == fetched[2].data != fetched[1].data
    assert len(fetched[1].data) == fetched[1].info.size
    with Image.open(io.BytesIO(fetched[1].data)) as image:
        assert (image.size, image.mode) == ((32, 32), "L")
        assert image.tobytes() == hashlib.sha256(b"000000000001.png").digest() * 32


def test_some_objects_may_be_missing() -> None:
    blobs = connect(Settings(store_url="null://?objects=9&missing=4"))
    found = [blobs.stat("any", f"{number:012}.png").size for number in range(9) if number % 4 != 3]
    assert len(found) == 7
    for number in (3, 7):
        with pytest.raises(errors.InputNotFound):
            blobs.fetch("any", f"{number:012}.png", max_bytes=1000)
