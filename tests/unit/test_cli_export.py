"""`ocrfleet export`: what it downloads, and where it puts it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from ocrfleet.blobs import NullBlobs
from ocrfleet.cli.export import download, place
from ocrfleet.client.exports import Export
from ocrfleet.errors import InputNotFound, ValidationFailed
from ocrfleet.s3 import BlobInfo, Stream

MADE: Export = {
    "id": "e", "job_id": "j", "format": "jsonl", "bucket": "exports", "prefix": "out/", "partial": False,
    "state": "completed", "items": 3, "failed": 1, "bytes": 2, "error": None, "created_at": "", "finished_at": "",
}  # fmt: skip


class Kept(NullBlobs):
    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(0)
        self.kept = objects

    @contextmanager
    def stream(self, bucket: str, key: str, *, offset: int = 0, etag: str | None = None) -> Iterator[Stream]:
        del offset, etag
        if (bucket, key) == ("exports", f"out/{key[4:]}") and key[4:] in self.kept:
            data = self.kept[key[4:]]
            yield Stream(BlobInfo(bucket, key, "", None, len(data)), iter([data]))
        else:
            raise InputNotFound(key)


def manifest(*outputs: str | None) -> bytes:
    return b"".join(orjson.dumps({"output": name}) + b"\n" for name in outputs)


def test_every_file_is_fetched_once_into_its_folder(tmp_path: Path) -> None:
    outputs = ("2026/a.png.md", None, "part-0", "part-0", "b.md")
    store = Kept({"manifest.jsonl": manifest(*outputs), "2026/a.png.md": b"a", "part-0": b"p", "b.md": b"b"})
    assert download(store, MADE, tmp_path / "new") == 4
    found = {
        path.relative_to(tmp_path / "new").as_posix()
        for path in (tmp_path / "new").rglob("*")
        if path.is_file()
    }
    assert found == {"manifest.jsonl", "2026/a.png.md", "part-0", "b.md"}
    assert (tmp_path / "new/2026/a.png.md").read_bytes() == b"a"


def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound):
        download(Kept({"manifest.jsonl": manifest("a.md")}), MADE, tmp_path)


@pytest.mark.parametrize("name", ["../a.md", "a/../../b.md", "a/.."])
def test_no_key_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationFailed):
        place(tmp_path, name)


@pytest.mark.parametrize(("name", "where"), [("/a//b.md", "a/b.md"), ("a.md", "a.md")])
def test_slashes_too_many_count_for_one(tmp_path: Path, name: str, where: str) -> None:
    assert place(tmp_path, name) == tmp_path / where
