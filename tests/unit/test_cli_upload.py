"""Uploads into a real S3 server: what is there already stays, whatever its size."""

from pathlib import Path

import pytest

from ocrfleet import blobs
from ocrfleet.cli.inputs import LocalFile
from ocrfleet.cli.progress import Lines
from ocrfleet.cli.puts import upload
from ocrfleet.errors import InputAccessDenied
from ocrfleet.s3 import PART
from ocrfleet.settings import Settings

NAMES = {"empty.pdf": 0, "some folder/数据.png": 5, "in parts.tif": PART + 1}


class Counting(blobs.S3Blobs):
    """Tells what it put."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.puts: list[str] = []

    def put(self, bucket: str, key: str, data: bytes | Path, content_type: str) -> blobs.BlobInfo:
        self.puts.append(key)
        return super().put(bucket, key, data, content_type)


@pytest.fixture
def store(s3: Settings) -> Counting:
    store = Counting(s3)
    store.ensure_bucket(s3.bucket)
    return store


@pytest.fixture
def files(tmp_path: Path) -> list[LocalFile]:
    found = [LocalFile(name, tmp_path / name) for name in NAMES]
    for file in found:
        file.path.parent.mkdir(exist_ok=True)
        file.path.write_bytes(b"x" * NAMES[file.name])
    return found


def test_only_what_is_new_or_changed_is_sent(store: Counting, files: list[LocalFile]) -> None:
    lines = upload(store, "ocr", "runs/one/", files, Lines())
    assert [(line["key"], line.get("custom_id")) for line in lines] == [
        (f"runs/one/{name}", name) for name in NAMES
    ]
    assert {info.key: info.size for info in store.scan("ocr", "runs/one/")} == {
        f"runs/one/{name}": size for name, size in NAMES.items()
    }
    store.puts.clear()
    files[1].path.write_bytes(b"other")
    upload(store, "ocr", "runs/one/", files, Lines())
    assert store.puts == ["runs/one/some folder/数据.png"]


def test_a_name_that_a_store_might_change_is_replaced_in_the_key_only(
    store: Counting, tmp_path: Path
) -> None:
    path = tmp_path / "a\n?b.png"
    path.write_bytes(b"x")
    [line] = upload(store, "ocr", "runs/two/", [LocalFile(path.name, path)], Lines())
    assert line.get("custom_id") == "a\n?b.png"
    assert line["key"].removeprefix("runs/two/").isalnum()
    assert store.fetch("ocr", line["key"], max_bytes=10).data == b"x"


def test_a_file_that_went_away_is_named(store: Counting, files: list[LocalFile]) -> None:
    files[1].path.unlink()
    with pytest.raises(InputAccessDenied, match=r"数据\.png"):
        upload(store, "ocr", "runs/three/", files, Lines())
