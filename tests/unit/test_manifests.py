"""Manifests as CSV and as gzip data: read on from any place, and errors with their line."""

import csv
import gzip
import io
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_inputs import MemoryBlobs, expansion, items, keys, shape

from api.schemas import ParameterOptions
from ocrfleet.errors import ManifestInvalid
from ocrfleet.inputs import Chunk, read
from ocrfleet.manifest_lines import MAX_LINE, PARAMETERS, parse_line
from ocrfleet.manifests import FREE, LONGEST
from ocrfleet.store.expansion import NewItem


def manifest(
    data: bytes, key: str = "m.csv", *, cursor: dict[str, Any] | None = None, size: int = 3, chunk: int = 7
) -> list[Chunk]:
    given = expansion({"type": "manifest", "bucket": "scans", "key": key}, cursor)
    return list(read(MemoryBlobs({key: data}, chunk), given, size))  # type: ignore[arg-type]


def found(chunks: list[Chunk]) -> list[NewItem]:
    return [item for chunk in chunks for item in chunk.items]


def test_a_row_becomes_an_item_with_all_it_says() -> None:
    head = b"key,bucket,custom_id,pages,etag,version_id,password,prompt_language\n"
    (item,) = found(manifest(head + b"a.pdf,b,inv-17,1-2,e,v,x,en\n"))
    options = {"password": "x", "prompt_language": "en", "pages": "1-2"}
    assert item == NewItem(1, "b", "a.pdf", "e", "v", "inv-17", options, countable=True)


def test_quotes_hold_commas_quotes_and_line_ends() -> None:
    data = b'custom_id,key\r\n"a, ""b""\r\nc","x,y.png"\r\n"",z.png\r\n'
    first, second = found(manifest(data))
    assert (first.key, first.custom_id, first.ordinal) == ("x,y.png", 'a, "b"\r\nc', 1)
    # The first row took two lines; an empty cell says nothing.
    assert (second.key, second.custom_id, second.ordinal, second.bucket) == ("z.png", None, 3, "scans")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("key", ["m.csv", "M.CSV", "m.csv.gz", "m", "m.jsonl"])
def test_a_csv_is_known_by_its_name_or_its_header(key: str, mark: bytes) -> None:
    assert keys(manifest(mark + b"\n bucket , key \nb,a.png\n", key)) == ["a.png"]


def test_lines_of_json_are_no_csv_but_by_name() -> None:
    data = b'\n{"key":"a.png"}\n{"key":"b.png"}\n'
    assert keys(manifest(data, "m")) == ["a.png", "b.png"]
    with pytest.raises(ManifestInvalid, match="line 2 is no header"):
        manifest(data, "m.csv")


@pytest.mark.parametrize(
    "header", [b"a.png,b.png", b"bucket", b"key,key", b"key,page", b'key,"', b"\xff,key", b"key,custom_id,"]
)
def test_a_header_that_is_none_fails_the_job_with_what_it_should_be(header: bytes) -> None:
    with pytest.raises(ManifestInvalid, match="line 1 is no header: it has to name `key`") as refused:
        manifest(header + b"\nx,y\n")
    assert refused.value.extra["line"] == 1


BROKEN = {
    "too many cells": b"a.png,b,c",
    "too few cells": b"a.png",
    "no key": b",b",
    "a quote inside": b'a"b,c',
    "behind a quote": b'"a"b,c',
    "an open quote": b'"a.png,b',
    "not UTF-8": b"\xff.png,b",
    "NUL": b"a\0.png,b",
    "a long line": b"k" * (MAX_LINE + 1) + b",b",
}


@pytest.mark.parametrize("row", BROKEN.values(), ids=BROKEN)
def test_a_broken_row_is_an_item_that_says_so_with_its_line_and_swallows_no_other(row: bytes) -> None:
    data = b"\n".join([b"key,custom_id", b'"1.png","a\nb"', row, *(b"%d.png,x" % n for n in range(2, 9))])
    before, bad, *after = found(manifest(data, chunk=4096))
    assert (before.key, before.custom_id) == ("1.png", "a\nb")
    assert bad.error is not None
    assert (bad.error.code, bad.error.extra["line"], bad.ordinal) == ("manifest_invalid", 4, 3)
    assert [item.key for item in after] == [f"{n}.png" for n in range(2, 9)]
    assert [item.ordinal for item in after] == list(range(4, 11))


def row(cells: list[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerow([f"k{cells[0]}"])
    return out.getvalue().removesuffix("\r\n").encode()


CELLS = st.lists(st.text('ab,"\n\r é', max_size=6), min_size=1, max_size=1)
STRAY = st.sampled_from([b"", b" ", b"\r", b'"', b'a"b', b"a,b,c", b'"a"b', b'"open'])
ROWS = st.one_of(CELLS.map(row), STRAY)


@settings(deadline=None)
@given(st.lists(ROWS, max_size=20), st.integers(1, 4), st.integers(1, 40), st.booleans())
def test_a_table_goes_on_from_the_cursor_of_any_chunk(
    rows: list[bytes], size: int, chunk: int, packed: bool
) -> None:
    data = b"key\n" + b"\n".join(rows)
    stored = gzip.compress(data) if packed else data
    whole = manifest(stored, size=size, chunk=chunk)
    assert [one.last for one in whole] == [False] * (len(whole) - 1) + [True]
    assert whole[-1].cursor["offset"] == len(data)
    ordinals = [item.ordinal for item in found(whole)]
    assert len(set(ordinals)) == len(ordinals)
    for n, behind in enumerate(whole):
        rest = manifest(stored, cursor=behind.cursor, size=size, chunk=chunk)
        assert items(rest) == items(whole[n + 1 :])


@given(st.lists(CELLS, max_size=20), st.integers(1, 40))
def test_what_a_csv_writer_wrote_is_read_back(rows: list[list[str]], chunk: int) -> None:
    data = b"key\r\n" + b"".join(row(cells) + b"\r\n" for cells in rows)
    assert keys(manifest(data, chunk=chunk)) == [f"k{cells[0]}" for cells in rows]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_gzip_data_of_any_number_of_members_are_read_on_from_any_chunk(parts: int, size: int) -> None:
    lines = [b'{"key":"%d.png"}\n' % n for n in range(9)]
    data = b"".join(gzip.compress(b"".join(lines[n::parts])) for n in range(parts))
    whole = manifest(data, "m.jsonl.gz", size=size)
    assert sorted(keys(whole)) == [f"{n}.png" for n in range(9)]
    for n, behind in enumerate(whole):
        rest = manifest(data, "m.jsonl.gz", cursor=behind.cursor, size=size)
        assert [shape(item) for item in found(rest)] == [shape(item) for item in found(whole[n + 1 :])]


def test_damaged_and_truncated_gzip_data_fail_the_job_where_they_are() -> None:
    data = gzip.compress(b'{"key":"a.png"}\n' * 4)
    with pytest.raises(ManifestInvalid, match="end too early"):
        manifest(data[:-9], "m.gz")
    with pytest.raises(ManifestInvalid, match="damaged"):
        manifest(data[:-6] + b"xxxxxx", "m.gz")
    with pytest.raises(ManifestInvalid, match="damaged"):
        manifest(data + b"no gzip", "m.gz", chunk=4096)


def packed(piece: bytes, times: int) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(piece) for _ in range(times)) + packer.flush()


@pytest.mark.parametrize("key", ["m.gz", "m.csv.gz"])
@pytest.mark.parametrize("head", [b"", b'{"key":"a.png"}\n\n'], ids=["at once", "behind a line"])
def test_lines_without_end_fail_the_job_and_cost_no_memory(key: str, head: bytes) -> None:
    head = b"key\na.png\n" if head and "csv" in key else head
    data = gzip.compress(head) + packed(b"x" * 1024 * 1024, 200)
    tracemalloc.start()
    try:
        with pytest.raises(ManifestInvalid, match=f"line {head.count(10) + 1} has no end") as refused:
            manifest(data, key, chunk=len(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    extra = refused.value.extra
    assert (extra["line"], extra["limit"]) == (head.count(10) + 1, LONGEST)
    assert LONGEST < extra["actual"] <= LONGEST + 1024 * 1024
    assert peak < 8 * 1024 * 1024, "it inflates to 200 MB"


def test_a_line_that_ends_too_late_fails_the_job_and_one_that_is_only_too_long_does_not() -> None:
    line = b'{"key":"a.png"}\n'
    assert [
        one.error is None for one in found(manifest(line + b"x" * LONGEST + b"\n" + line, "m", chunk=2**23))
    ] == [
        True,
        False,
        True,
    ]
    with pytest.raises(ManifestInvalid, match="line 2 has no end"):
        manifest(line + b"x" * (LONGEST + 1) + b"\n" + line, "m", chunk=2**23)


def test_gzip_data_of_nothing_are_given_up() -> None:
    data = gzip.compress(b'{"key":"a.png"}\n') + packed(b" " * (1024 * 1024 - 1) + b"\n", FREE // 2**20 + 10)
    with pytest.raises(ManifestInvalid, match="inflate to more than") as refused:
        manifest(data, "m.gz", chunk=len(data), size=1000)
    assert (refused.value.extra["limit"], refused.value.extra["line"]) == (FREE, FREE // 2**20 + 2)


@pytest.mark.parametrize("key", ["m.gz", "m.csv.gz"])
def test_the_reader_has_its_turn_with_each_piece_however_long_a_line_is(key: str) -> None:
    row = b"key\na.png\n" if "csv" in key else b'{"key":"a.png"}\n'
    data = gzip.compress(row + b" " * (LONGEST - 1) + b"\n" + row[4 if "csv" in key else 0 :])
    whole = manifest(data, key, chunk=len(data), size=1)
    assert len(whole) > LONGEST // 2**18, "a piece has 256 KB"
    assert keys(whole) == ["a.png", "a.png"]
    for behind in whole[::5]:
        rest = manifest(data, key, cursor=behind.cursor, chunk=len(data), size=1)
        assert keys(rest) == keys([one for one in whole if one.cursor["line"] > behind.cursor["line"]])


@pytest.mark.parametrize("form", ["lines", "table"])
def test_what_is_skipped_comes_as_empty_chunks_that_move_nothing(form: str) -> None:
    line, head = (b'{"key":"%s.png"}\n', b"") if form == "lines" else (b"%s1234567890.png\n", b"key\n")
    data = gzip.compress(head + (line % b"a") * 2**17 + line % b"b")
    at = {
        "etag": f"etag-{hash(data)}",
        "offset": len(head) + len(line % b"a") * 2**17,
        "line": 2**17,
        "gzip": True,
    }
    at |= {"columns": ["key"]} if head else {}
    # Without the beat the chunks would be of a thousand pieces each.
    given = expansion({"type": "manifest", "bucket": "scans", "key": "m.gz"}, at)
    chunks = list(read(MemoryBlobs({"m.gz": data}, len(data)), given, 1000, beat=0.0))  # type: ignore[arg-type]
    empty = [one for one in chunks if not one.items and not one.last]
    assert len(empty) >= 8, "2 MB, a quarter of one at a time"
    assert all(one.cursor == at for one in empty[:8])
    assert [key[0] for key in keys(chunks)] == ["b"]


def test_options_of_a_line_go_with_its_item() -> None:
    options = (
        b'{"prompt_language":"zh","parameters":{"temperature":1,"top_k":5,"max_pixels":null},"cache":false}'
    )
    item = parse_line(b'{"key":"a.png","options":%s}' % options, 1, "b", task="text")
    assert item.error is None
    assert item.options is not None
    assert item.options["parameters"]["temperature"] == 1
    assert item.options["cache"] is False


def test_a_language_is_refused_where_the_task_does_not_translate() -> None:
    line = b'{"key":"a.png","options":{"target_language":"en"}}'
    assert parse_line(line, 1, "b", task="translate").error is None
    error = parse_line(line, 7, "b", task="text").error
    assert error is not None
    assert "line 7" in error.detail
    assert "'text'" in error.detail


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_line_may_say_of_a_parameter_what_a_job_may(name: str) -> None:
    kind, least, most = PARAMETERS[name]
    for value in (least, most, least - 1, most + 1, 0, 1.5):
        try:
            ParameterOptions.model_validate({name: kind(value) if value in (least, most) else value})
            allowed = True
        except ValidationError:
            allowed = False
        text = str(kind(value) if value in (least, most) else value).encode()
        line = b'{"key":"a.png","options":{"parameters":{"%s":%s}}}' % (name.encode(), text)
        assert (parse_line(line, 1, "b").error is None) is allowed, value
