"""Reading a job's input: manifests line by line from any offset, prefixes by their globs, objects given inline."""

import tracemalloc
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrfleet.errors import InputChanged, ManifestInvalid
from ocrfleet.inputs import Chunk, read
from ocrfleet.manifest_lines import MAX_KEY, MAX_LINE, parse_line
from ocrfleet.s3 import BlobInfo, Stream, check
from ocrfleet.store.expansion import Expansion, NewItem


class MemoryBlobs:
    """Objects in memory, streamed in chunks of a few bytes; only what an expansion asks of a store."""

    def __init__(self, objects: dict[str, bytes], chunk: int = 7) -> None:
        self.objects = objects
        self._chunk = chunk

    @contextmanager
    def stream(self, bucket: str, key: str, *, offset: int = 0, etag: str | None = None) -> Generator[Stream]:
        info, data = self._info(bucket, key), self.objects[key]
        check(info, etag)
        yield Stream(info, (data[n : n + self._chunk] for n in range(offset, len(data), self._chunk)))

    def scan(self, bucket: str, prefix: str, *, start_after: str = "") -> Iterator[BlobInfo]:
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > start_after)
        return (self._info(bucket, key) for key in keys)

    def _info(self, bucket: str, key: str) -> BlobInfo:
        data = self.objects[key]
        return BlobInfo(bucket, key, f"etag-{hash(data)}", None, len(data))


def expansion(given: dict[str, Any], cursor: dict[str, Any] | None = None) -> Expansion:
    # As it comes out of the record: as JSON.
    return Expansion(UUID(int=1), given, {}, orjson.loads(orjson.dumps(cursor or {})))


def manifest(
    data: bytes, *, cursor: dict[str, Any] | None = None, size: int = 3, chunk: int = 7
) -> list[Chunk]:
    blobs = MemoryBlobs({"m.jsonl": data}, chunk)
    given = expansion({"type": "manifest", "bucket": "scans", "key": "m.jsonl"}, cursor)
    return list(read(blobs, given, size))  # type: ignore[arg-type]


def items(chunks: list[Chunk]) -> list[tuple[Any, ...]]:
    """What tells items apart; errors compare by what they say."""
    return [shape(item) for chunk in chunks for item in chunk.items]


def shape(item: NewItem) -> tuple[Any, ...]:
    error = item.error and (item.error.code, item.error.detail)
    return item.ordinal, item.bucket, item.key, item.custom_id, item.options, item.countable, error


def keys(chunks: list[Chunk]) -> list[str]:
    return [item.key for chunk in chunks for item in chunk.items]


def test_a_line_becomes_an_item_with_all_it_says() -> None:
    line = {
        "bucket": "b",
        "key": "a.pdf",
        "custom_id": "inv-17",
        "pages": "1-2",
        "options": {"password": "x"},
    }
    line |= {"etag": "e", "version_id": "v"}
    item = parse_line(orjson.dumps(line), 5, "scans")
    given = NewItem(4, "b", "a.pdf", "e", "v", "inv-17", {"password": "x", "pages": "1-2"}, countable=True)
    assert item == given


def test_the_bucket_defaults_to_the_manifests_and_null_is_as_good_as_nothing() -> None:
    assert parse_line(b'{"key":"a.jpg"}', 1, "scans") == NewItem(0, "scans", "a.jpg")
    line = b'{"key":"a.jpg","bucket":null,"custom_id":null,"pages":null,"options":null,"etag":null}'
    assert parse_line(line, 1, "scans") == NewItem(0, "scans", "a.jpg")


@pytest.mark.parametrize(
    ("key", "countable"),
    [("a.jpg", False), ("A.PNG", False), ("a.pdf", True), ("a.TIFF", True), ("a", True), ("a.bin", True)],
)
def test_only_what_may_have_several_pages_has_to_be_counted(key: str, *, countable: bool) -> None:
    assert parse_line(orjson.dumps({"key": key}), 1, "scans").countable is countable


def test_a_page_range_is_checked_against_the_pages_of_an_image_too() -> None:
    assert parse_line(b'{"key":"a.jpg","pages":"2"}', 1, "scans").countable
    assert parse_line(b'{"key":"a.jpg","options":{"pages":"2"}}', 1, "scans").countable


MALFORMED = {
    "not JSON": b'{"key":"a.jpg"',
    "two objects": b'{"key":"a"} {"key":"b"}',
    "CSV": b"a.jpg,b.jpg",
    "not UTF-8": b'{"key":"\xff"}',
    "a lone surrogate": b'{"key":"\\ud800"}',
    "NUL in the key": b'{"key":"a\\u0000.jpg"}',
    "NUL in an option": b'{"key":"a.jpg","options":{"x":["\\u0000"]}}',
    "nested too deep": b'{"key":"a.jpg","options":{"x":' + b"[" * 500 + b"]" * 500 + b"}}",
    "an array": b'["a.jpg"]',
    "a string": b'"a.jpg"',
    "null": b"null",
    "no key": b'{"bucket":"b"}',
    "an empty key": b'{"key":""}',
    "a number for a key": b'{"key":7}',
    "a long key": orjson.dumps({"key": "k" * (MAX_KEY + 1)}),
    "an unknown member": b'{"key":"a.jpg","page":"1"}',
    "a number for a custom_id": b'{"key":"a.jpg","custom_id":17}',
    "a number for pages": b'{"key":"a.pdf","pages":1}',
    "an array for a bucket": b'{"key":"a.pdf","bucket":["b"]}',
    "options as text": b'{"key":"a.pdf","options":"1"}',
    "a number for the pages option": b'{"key":"a.pdf","options":{"pages":1}}',
    "a number for the password": b'{"key":"a.pdf","options":{"password":1234}}',
    "an unknown option": b'{"key":"a.jpg","options":{"fields":["total"]}}',
    "an unknown language": b'{"key":"a.jpg","options":{"prompt_language":"fr"}}',
    "cache as text": b'{"key":"a.jpg","options":{"cache":"no"}}',
    "parameters as text": b'{"key":"a.jpg","options":{"parameters":"hot"}}',
    "an unknown parameter": b'{"key":"a.jpg","options":{"parameters":{"temp":1}}}',
    "a parameter beyond its range": b'{"key":"a.jpg","options":{"parameters":{"temperature":3}}}',
    "a parameter that is true": b'{"key":"a.jpg","options":{"parameters":{"top_k":true}}}',
    "a whole number that is none": b'{"key":"a.jpg","options":{"parameters":{"max_tokens":1.5}}}',
    "a long line": b'{"key":"' + b"k" * MAX_LINE + b'"}',
}


@pytest.mark.parametrize("line", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_line_is_an_item_that_says_so_with_its_number(line: bytes) -> None:
    good = b'{"key":"before.jpg"}\n', b'\n{"key":"after.jpg"}'
    before, bad, after = [item for chunk in manifest(line.join(good)) for item in chunk.items]
    assert (before.key, after.key) == ("before.jpg", "after.jpg")
    assert bad.error is not None
    assert (bad.error.code, bad.error.extra["line"], bad.ordinal) == ("manifest_invalid", 2, 1)
    assert "line 2" in bad.error.detail
    assert not bad.countable
    orjson.dumps(bad.error.detail)  # it can be recorded


def test_a_backslash_before_a_u_is_no_nul() -> None:
    assert parse_line(b'{"key":"a\\\\u0000.jpg"}', 1, "scans").key == "a\\u0000.jpg"


def test_the_limit_and_the_name_of_what_is_wrong_are_told() -> None:
    long = parse_line(MALFORMED["a long line"], 9, "scans").error
    assert long is not None
    assert long.extra == {"line": 9, "limit": MAX_LINE}
    unknown = parse_line(MALFORMED["an unknown member"], 9, "scans").error
    assert unknown is not None
    assert "'page'" in unknown.detail
    assert "custom_id" in unknown.detail


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_blank_lines_and_the_byte_order_mark_do_not_matter(
    end: bytes, mark: bytes, *, last: bool
) -> None:
    lines = [b'{"key":"1.jpg"}', b"", b"  \t ", b'{"key":"4.jpg"}']
    data = mark + end.join(lines) + (end if last else b"")
    # A line's number, blank ones counted, less one is its item's ordinal.
    assert [(item[0], item[2]) for item in items(manifest(data))] == [(0, "1.jpg"), (3, "4.jpg")]


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\r\n"])
def test_a_manifest_without_lines_has_one_empty_last_chunk(data: bytes) -> None:
    (chunk,) = manifest(data)
    assert chunk.items == []
    assert chunk.last


LINES = st.one_of(
    st.integers(0, 9).map(lambda n: b'{"key":"%d.pdf"}' % n),
    st.sampled_from(
        [b"", b" ", b"\r", b"{", b"[]", b'{"key":"\xc3\xa9.png"}\r', b'{"key":"x.jpg","pages":"1"}']
    ),
)


@settings(deadline=None)
@given(st.lists(LINES, max_size=30), st.booleans(), st.integers(1, 5), st.integers(1, 40))
def test_reading_goes_on_from_the_cursor_of_any_chunk(
    lines: list[bytes], final_newline: bool, size: int, chunk: int
) -> None:
    data = b"\n".join(lines) + (b"\n" if final_newline else b"")
    whole = manifest(data, size=size, chunk=chunk)
    assert [one.last for one in whole] == [False] * (len(whole) - 1) + [True]
    assert all(len(one.items) <= size for one in whole)
    for n, behind in enumerate(whole):
        rest = manifest(data, cursor=behind.cursor, size=size, chunk=chunk)
        assert items(rest) == items(whole[n + 1 :])
    expected = [n for n, line in enumerate(lines) if line.strip()]
    assert [item[0] for item in items(whole)] == expected
    assert whole[-1].cursor["offset"] == len(data)


def test_a_manifest_that_changed_between_two_turns_is_not_mixed() -> None:
    lines = b'{"key":"1.jpg"}\n' * 6
    first = manifest(lines)[0]
    with pytest.raises(InputChanged):
        manifest(lines + b'{"key":"7.jpg"}\n', cursor=first.cursor)


class Endless(MemoryBlobs):
    """A manifest of one endless line and a short one, made as it is read."""

    @contextmanager
    def stream(self, bucket: str, key: str, *, offset: int = 0, etag: str | None = None) -> Generator[Stream]:
        del offset, etag
        chunk = b"x" * 256 * 1024
        yield Stream(BlobInfo(bucket, key, "e", None, 0), iter([*[chunk] * 400, b'\n{"key":"a.jpg"}\n']))


def test_an_endless_line_fails_the_job_and_costs_no_memory() -> None:
    given = expansion({"type": "manifest", "bucket": "b", "key": "m"})
    tracemalloc.start()
    try:
        with pytest.raises(ManifestInvalid, match="line 1 has no end"):
            list(read(Endless({}), given, 10))  # type: ignore[arg-type]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024, "the line has 100 MB"


OBJECTS = {f"scans/{name}": b"x" for name in ("1.jpg", "2.pdf", "a/3.jpg", "a/4.png", "b/5.jpg", "notes.txt")}


def prefix(cursor: dict[str, Any] | None = None, size: int = 100, **given: Any) -> list[Chunk]:
    blobs = MemoryBlobs({**OBJECTS, "other/6.jpg": b"x"})
    wanted = {"type": "prefix", "bucket": "b", "prefix": "scans/", **given}
    return list(read(blobs, expansion(wanted, cursor), size))  # type: ignore[arg-type]


def test_a_prefix_takes_all_keys_below_it_in_order_and_pins_their_etags() -> None:
    (chunk,) = prefix()
    assert keys([chunk]) == sorted(OBJECTS)
    assert [item.ordinal for item in chunk.items] == list(range(6))
    assert all(item.etag for item in chunk.items)
    assert [item.key for item in chunk.items if item.countable] == ["scans/2.pdf", "scans/notes.txt"]


def test_globs_choose_among_the_keys() -> None:
    assert keys(prefix(include=["*.jpg"])) == ["scans/1.jpg", "scans/a/3.jpg", "scans/b/5.jpg"]
    assert keys(prefix(include=["*.jpg", "*.png"], exclude=["scans/a/*"])) == ["scans/1.jpg", "scans/b/5.jpg"]
    assert keys(prefix(exclude=["*"])) == []
    assert keys(prefix(include=["*.JPG"])) == [], "keys tell upper from lower case"


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_a_prefix_goes_on_from_any_chunk(size: int) -> None:
    whole = prefix(size=size, exclude=["*.txt"])
    assert whole[-1].last
    for n, behind in enumerate(whole):
        assert items(prefix(behind.cursor, size, exclude=["*.txt"])) == items(whole[n + 1 :])


def test_inline_objects_come_in_chunks_and_go_on_from_any() -> None:
    objects = [{"bucket": "b", "key": f"{n}.jpg", "custom_id": str(n)} for n in range(7)]
    given = {"type": "objects", "bucket": "b", "objects": objects}

    def chunks(cursor: dict[str, Any]) -> list[Chunk]:
        return list(read(MemoryBlobs({}), expansion(given, cursor), 3))  # type: ignore[arg-type]

    whole = chunks({})
    assert [len(chunk.items) for chunk in whole] == [3, 3, 1]
    assert [chunk.last for chunk in whole] == [False, False, True]
    assert [item[:4] for item in items(whole)] == [(n, "b", f"{n}.jpg", str(n)) for n in range(7)]
    for before, after in pairwise(whole):
        assert shape(chunks(before.cursor)[0].items[0]) == shape(after.items[0])
