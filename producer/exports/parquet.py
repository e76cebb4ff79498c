"""The format parquet: a row for each page, in parts; the schema is told in docs/exports.md."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import orjson
import pyarrow as _arrow  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet as _parquet  # pyright: ignore[reportMissingTypeStubs]

from ocrfleet.blobs import Blobs
from ocrfleet.settings import Settings
from ocrfleet.store.export_reads import ExportItem
from producer.exports.base import PART, Format, Page, Work, manifest_line

# Neither has annotations.
pa, pq = cast("Any", _arrow), cast("Any", _parquet)
ROW_GROUP = 1000
"""Rows, which are held in memory together."""

_REGION = pa.struct(
    [
        ("text", pa.string()),
        ("box", pa.list_(pa.int32())),
        ("confidence", pa.float32()),
        ("label", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [
        ("job_id", pa.string()),
        ("item_id", pa.int64()),
        ("ordinal", pa.int64()),
        ("custom_id", pa.string()),
        ("bucket", pa.string()),
        ("key", pa.string()),
        ("member", pa.string()),
        ("page", pa.int32()),
        ("state", pa.string()),
        ("seq", pa.int64()),
        ("attempt", pa.int32()),
        ("code", pa.string()),
        ("detail", pa.string()),
        ("text", pa.string()),
        ("markdown", pa.string()),
        ("fields", pa.string()),
        ("regions", pa.list_(_REGION)),
        ("language", pa.string()),
        ("confidence", pa.float32()),
        ("warnings", pa.list_(pa.string())),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("image_tokens", pa.int64()),
        ("infer_ms", pa.int64()),
        ("engine", pa.string()),
        ("model", pa.string()),
        ("revision", pa.string()),
        ("task", pa.string()),
        ("task_version", pa.int32()),
        ("cache", pa.string()),
    ]
)
_SAME = (
    "job_id", "custom_id", "bucket", "key", "member", "page", "seq", "attempt", "text", "markdown", "regions",
    "language", "confidence", "warnings", "engine", "model", "revision", "task", "task_version", "cache",
)  # fmt: skip
"""Columns that are members of a result line under the same name."""


def make(settings: Settings, blobs: Blobs) -> Format:
    """Built once a producer."""
    del settings, blobs
    return Parts()


class Parts:
    """A part for each chunk; an item's pages are never in two of them."""

    items_at_once = 20_000
    pages_at_once = 20_000

    def write(self, work: Work, items: Sequence[ExportItem], number: int) -> list[dict[str, Any]]:
        by_ordinal = {item.ordinal: item for item in items}
        rows = (
            _row(by_ordinal[ordinal], page)
            for ordinal, page in work.pages(items[0], items[-1])
            if ordinal in by_ordinal
        )
        with tempfile.NamedTemporaryFile(prefix="ocrfleet-export-") as file:
            with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
                for group in _groups(rows):
                    writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))
            file.flush()
            key = f"{PART}{number:05}.parquet"
            written = work.put(key, Path(file.name), "application/vnd.apache.parquet")
        return [manifest_line(item, written if item.pages else None) for item in items]

    def close(self) -> None:
        pass


def _row(item: ExportItem, page: Page) -> dict[str, Any]:
    result = page.result
    error, image, usage = _map(result, "error"), _map(result, "image"), _map(result, "usage")
    fields: object = result.get("fields")
    return {
        **{name: result.get(name) for name in _SAME},
        "item_id": item.id,
        "ordinal": item.ordinal,
        "custom_id": item.custom_id,
        "bucket": item.bucket,
        "key": item.key,
        "member": item.member,
        "page": page.number or None,
        "state": page.state.value,
        "code": page.code,
        "detail": error.get("detail"),
        "fields": None if fields is None else orjson.dumps(fields).decode(),
        "width": image.get("width"),
        "height": image.get("height"),
        "sha256": image.get("sha256"),
        **{name: usage.get(name) for name in ("prompt_tokens", "output_tokens", "image_tokens")},
        "infer_ms": _map(result, "timings_ms").get("infer"),
    }


def _map(result: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return result.get(name) or {}


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while group := list(islice(rows, ROW_GROUP)):
        yield group
