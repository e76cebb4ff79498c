"""Archives in the sandbox: what is listed, what is taken out, and how each nasty one ends."""

import gzip
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from zips import crowded, encrypted, overstated, tarred, zipped

from ocrfleet.archives import Bounds, Extractor
from ocrfleet.documents import ArchiveType, Limits
from ocrfleet.errors import (
    CorruptFile,
    DecompressionBomb,
    EmptyFile,
    EncryptedArchive,
    FileTooLarge,
    FleetError,
    InputNotFound,
    TooManyEntries,
    UnsupportedMediaType,
)
from ocrfleet.sandbox import Sandbox
from ocrfleet.settings import Settings

BOUNDS = Bounds(entries=20, total_bytes=200_000_000, member_bytes=1_000_000, ratio=200)
FILES = {"a.png": b"first", "scans/": b"", "scans/数据.pdf": b"second" * 100}
JUNK = {
    "__MACOSX/._a.png": b"x",
    ".DS_Store": b"x",
    "scans/.hidden/b.png": b"x",
    "scans/Thumbs.db": b"x",
}
KINDS: dict[str, Callable[..., bytes]] = {
    "zip": zipped,
    "stored zip": lambda files: zipped(files, method=zipfile.ZIP_STORED),
    "tar": tarred,
    "tar.gz": lambda files: tarred(files, "w:gz"),
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(1, Limits.of(Settings())) as sandbox:
        yield sandbox


@pytest.fixture
def save(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "archive"
        path.write_bytes(data)
        return path

    return write


Save = Callable[[bytes], Path]


@pytest.mark.parametrize("made", KINDS.values(), ids=KINDS)
def test_files_are_listed_and_taken_out_and_junk_is_not(
    sandbox: Sandbox, save: Save, made: Callable[..., bytes]
) -> None:
    files = {name: data for name, data in (FILES | JUNK).items() if made is zipped or not name.endswith("/")}
    path = save(made(files))
    found = sandbox.members(path, BOUNDS)
    assert [(one.name, one.size, one.code) for one in found] == [
        ("a.png", 5, None),
        ("scans/数据.pdf", 600, None),
    ]
    assert sandbox.extract(path, "scans/数据.pdf", BOUNDS) == b"second" * 100
    assert sandbox.extract(path, "a.png", BOUNDS) == b"first"
    with pytest.raises(InputNotFound, match=r"b\.png"):
        sandbox.extract(path, "b.png", BOUNDS)


@pytest.mark.parametrize("made", KINDS.values(), ids=KINDS)
def test_of_two_members_of_one_name_the_later_is_meant(
    sandbox: Sandbox, save: Save, made: Callable[..., bytes]
) -> None:
    path = save(made({"./a.png": b"old", "b.png": b"b", "a.png": b"new"}))
    assert [one.name for one in sandbox.members(path, BOUNDS)] == ["b.png", "a.png"]
    assert sandbox.extract(path, "a.png", BOUNDS) == b"new"


@pytest.mark.parametrize("made", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/../../b.png", "..\\b.png", "C:\\b.png"]
)
def test_a_path_that_leads_out_is_an_error_of_its_member_alone(
    sandbox: Sandbox, save: Save, made: Callable[..., bytes], name: str
) -> None:
    found = sandbox.members(save(made({name: b"x", "a.png": b"x"})), BOUNDS)
    assert [one.code for one in found] == ["corrupt_file", None]
    assert "leads out" in found[0].detail


def test_links_are_no_files(sandbox: Sandbox, save: Save) -> None:
    path = save(tarred({"a.png": b"x"}, links={"b.png": "/etc/passwd", "c": "a.png"}))
    assert [one.name for one in sandbox.members(path, BOUNDS)] == ["a.png"]
    with pytest.raises(InputNotFound):
        sandbox.extract(path, "b.png", BOUNDS)


def test_what_one_member_is_refused_for_is_told_with_limit_and_actual(sandbox: Sandbox, save: Save) -> None:
    path = save(encrypted(zipped({"a.png": b"x", "b.png": b"y", "big": b"z" * 1_000_001}), "b.png"))
    found = {one.name: one for one in sandbox.members(path, BOUNDS)}
    assert {name: one.code for name, one in found.items()} == {
        "a.png": None,
        "b.png": "encrypted_archive",
        "big": "file_too_large",
    }
    assert found["big"].extra == {"limit": 1_000_000, "actual": 1_000_001}
    with pytest.raises(EncryptedArchive):
        sandbox.extract(path, "b.png", BOUNDS)
    with pytest.raises(FileTooLarge):
        sandbox.extract(path, "big", BOUNDS)


MANY = {f"{n}.png": b"x" for n in range(21)}
ZEROS = {"zeros": bytes(100_000_000)}
NASTY: dict[str, tuple[bytes, type[FleetError]]] = {
    "an empty zip": (zipped({}), EmptyFile),
    "folders and junk only": (zipped(JUNK | {"scans/": b""}), EmptyFile),
    "an empty tar.gz": (tarred({}, "w:gz"), EmptyFile),
    "a truncated zip": (zipped(FILES)[:-30], CorruptFile),
    "the beginning of a zip": (zipped(FILES)[:40], CorruptFile),
    "a truncated tar": (tarred({"a.png": b"x", "b.png": b"x" * 9000})[:5000], CorruptFile),
    "a tar cut between two members": (tarred({"a.png": b"x" * 512, "b.png": b"x" * 512})[:1024], CorruptFile),
    "a tar cut in a header": (tarred({"a.png": b"x" * 512, "b.png": b"x" * 512})[:1200], CorruptFile),
    "a truncated tar.gz": (
        tarred({f"{n}": bytes(range(256)) * 40 for n in range(9)}, "w:gz")[:200],
        CorruptFile,
    ),
    "a tar whose second header is damaged": (
        (lambda data: data[:1024] + b"x" * 100 + data[1124:])(tarred({"a": b"x", "b": b"y"})),
        CorruptFile,
    ),
    "gzip data that hold no tar": (gzip.compress(b"just a text " * 100), UnsupportedMediaType),
    "an office document": (zipped({"[Content_Types].xml": b"x", "word/a.png": b"x"}), UnsupportedMediaType),
    "many entries in a zip": (zipped(MANY), TooManyEntries),
    "millions of entries by its own word": (crowded(zipped(FILES), 0xFFFF), TooManyEntries),
    "more entries than it says": (crowded(zipped(MANY), 1), TooManyEntries),
    "many entries in a tar": (tarred(MANY), TooManyEntries),
    "many entries in a tar.gz": (tarred(MANY, "w:gz"), TooManyEntries),
    "a zip bomb": (zipped(ZEROS), DecompressionBomb),
    "a tar.gz bomb": (tarred(ZEROS, "w:gz"), DecompressionBomb),
    "a zip that says it is a bomb": (overstated(zipped(FILES), 0x7FFFFFFF), DecompressionBomb),
}


@pytest.mark.parametrize(("data", "error"), NASTY.values(), ids=NASTY)
def test_a_nasty_archive_ends_with_its_code(
    sandbox: Sandbox, save: Save, data: bytes, error: type[FleetError]
) -> None:
    with pytest.raises(error) as refused:
        sandbox.members(save(data), BOUNDS)
    assert type(refused.value) is error
    if error in (DecompressionBomb, TooManyEntries):
        assert refused.value.extra["actual"] > refused.value.extra["limit"]


def test_a_member_that_is_damaged_or_smaller_than_it_says_is_corrupt(sandbox: Sandbox, save: Save) -> None:
    whole = zipped({"a.png": b"abcdefgh" * 10}, method=zipfile.ZIP_STORED)
    with pytest.raises(CorruptFile):
        sandbox.extract(save(whole.replace(b"abcd", b"abxd", 1)), "a.png", BOUNDS)
    with pytest.raises(CorruptFile):
        sandbox.extract(save(overstated(zipped({"a.png": b"abc"}), 900)), "a.png", BOUNDS)


def test_a_member_is_no_larger_in_memory_than_it_may_be(sandbox: Sandbox, save: Save) -> None:
    path = save(tarred({"a.png": bytes(5000)}, "w:gz"))
    with pytest.raises(FileTooLarge) as refused:
        sandbox.extract(path, "a.png", replace(BOUNDS, member_bytes=4999))
    assert refused.value.extra == {"limit": 4999, "actual": 5000}


class CountingFile(io.FileIO):
    """A file that counts how often it is read from."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(-1 if size is None else size)


def test_of_a_tar_that_was_read_last_no_other_member_is_looked_at(save: Save, tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(300)]
    path, other = save(tarred({name: name.encode() for name in names})), tmp_path / "other"
    other.write_bytes(tarred({name: name[::-1].encode() for name in names}))
    extractor, bounds = Extractor(), Bounds(1000, 10**6, 10**6, 10)

    def take(path: Path, name: str) -> int:
        with CountingFile(path) as file:
            data = name[::-1].encode() if path == other else name.encode()
            assert extractor.extract(file, ArchiveType.TAR, name, bounds) == data
            return file.reads

    assert take(path, "299.png") > 300
    assert all(take(path, name) < 10 for name in names)
    assert take(other, "0.png") > 300
    assert take(path, "1.png") > 300, "one is remembered, not all there ever were"
    with CountingFile(path) as file, pytest.raises(InputNotFound):
        extractor.extract(file, ArchiveType.TAR, "300.png", bounds)
