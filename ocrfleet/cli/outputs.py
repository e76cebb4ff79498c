"""The folder that `run` leaves: a JSON and a text file per input, all results in order, a summary."""

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson

from ocrfleet.advice import advice
from ocrfleet.api_types import Job, Result
from ocrfleet.catalogue import TASKS, OutputKind
from ocrfleet.cli.record import whole_lines

RESULTS = "results.jsonl"
SUMMARY = "summary.json"
LISTED_FAILURES = 1000
"""How many failures summary.json lists; results.jsonl has all of them."""
LONGEST_NAME = 240


class Failure(NamedTuple):
    """Why a page, or with `page` None a whole input, has no text."""

    input: str
    page: int | None
    code: str
    detail: str


@dataclass(slots=True)
class Tally:
    """What the outputs hold."""

    files: dict[str, int] = field(
        default_factory=lambda: {"total": 0, "succeeded": 0, "partial": 0, "failed": 0, "unfinished": 0}
    )
    errors: dict[str, int] = field(default_factory=dict[str, int])
    failures: list[Failure] = field(default_factory=list[Failure])


def write(out: Path, names: Sequence[str], results: Path, task: str) -> Tally:
    """Write all but the summary, from results in any order; a page takes some 50 bytes of memory, whatever it holds."""
    out.mkdir(parents=True, exist_ok=True)
    suffix = ".md" if task in TASKS and TASKS[task].output is OutputKind.MARKDOWN else ".txt"
    tally = Tally()
    tally.files["total"] = tally.files["unfinished"] = len(names)
    draft = out / f".{RESULTS}.draft"
    with draft.open("wb") as ordered, results.open("rb") as source:
        for ordinal, places in groupby(_index(names, results), key=lambda place: place[0]):
            _write_input(out, names[ordinal], _read(source, places), suffix, ordered, tally)
    draft.replace(out / RESULTS)
    return tally


def write_summary(out: Path, job: Job, tally: Tally, seconds: float) -> dict[str, Any]:
    """The run in one JSON object, for people and programs."""
    counts = job["counts"]
    by_code: dict[str, list[dict[str, Any]]] = {code: [] for code in tally.errors}
    for failure in tally.failures:
        line = {"input": failure.input, "page": failure.page, "detail": failure.detail}
        by_code[failure.code].append(line)
    summary: dict[str, Any] = {
        "job_id": job["id"],
        "state": job["state"],
        "outcome": job["outcome"],
        "task": job["task"],
        "seconds": round(seconds, 1),
        "files": tally.files,
        "pages": {name: counts[name] for name in ("total", "succeeded", "dead", "canceled")},
        "errors": tally.errors,
        "failures": {code: {"next": advice(code), "pages": lines} for code, lines in by_code.items()},
        "failures_not_listed": sum(tally.errors.values()) - len(tally.failures),
        "error": job["error"],
    }
    (out / SUMMARY).write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2) + b"\n")
    return summary


def _index(names: Sequence[str], results: Path) -> Iterator[tuple[int, int]]:
    """(ordinal of the input, offset of the line), by input and page; of two results for a page, the later."""
    ordinals = {name: ordinal for ordinal, name in enumerate(names)}
    columns = array("q"), array("q"), array("q")
    offset = 0
    for line in whole_lines(results):
        record = orjson.loads(line)
        ordinal = ordinals.get(record["custom_id"])
        if ordinal is not None:
            for column, value in zip(columns, (ordinal, record["page"] or 0, offset), strict=True):
                column.append(value)
        offset += len(line)
    inputs, pages, offsets = (np.array(column) for column in columns)
    order = np.lexsort((offsets, pages, inputs))
    for here, after in zip(order, np.append(order[1:], -1), strict=True) if len(order) else ():
        if after < 0 or (inputs[here], pages[here]) != (inputs[after], pages[after]):
            yield int(inputs[here]), int(offsets[here])


def _read(source: BinaryIO, places: Iterator[tuple[int, int]]) -> Iterator[bytes]:
    for _, offset in places:
        source.seek(offset)
        yield source.readline()


def _write_input(
    out: Path, name: str, lines: Iterator[bytes], suffix: str, ordered: BinaryIO, tally: Tally
) -> None:
    """One input's files, page by page: a document of 10,000 pages is never in memory as a whole."""
    stem = out / output_name(name)
    stem.parent.mkdir(parents=True, exist_ok=True)
    text_path = stem.with_name(f"{stem.name}{suffix}")
    read = failed = 0
    with stem.with_name(f"{stem.name}.json").open("wb") as whole, text_path.open("wb") as text:
        whole.write(b'{"input":' + orjson.dumps(name) + b',"pages":[\n')
        for line in lines:
            whole.write((b",\n" if read + failed else b"") + line.rstrip(b"\n"))
            ordered.write(line)
            result: Result = orjson.loads(line)
            if "error" in result:
                failed += 1
                _count_failure(tally, name, result)
            else:
                text.write((b"\n\n" if read else b"") + text_of(result, suffix).rstrip().encode())
                read += 1
        whole.write(b'\n],"succeeded":%d,"failed":%d}\n' % (read, failed))
        text.write(b"\n" if text.tell() else b"")
    if not read:
        text_path.unlink()
    tally.files["unfinished"] -= 1
    tally.files["partial" if read and failed else "succeeded" if read else "failed"] += 1


def text_of(result: Result, suffix: str = ".txt") -> str:
    """What a page says, as Markdown where its file is one."""
    return (result.get("markdown") if suffix == ".md" else None) or result.get("text") or ""


def _count_failure(tally: Tally, name: str, result: Result) -> None:
    error = result.get("error") or {"code": "internal", "detail": ""}
    tally.errors[error["code"]] = tally.errors.get(error["code"], 0) + 1
    if len(tally.failures) < LISTED_FAILURES:
        tally.failures.append(Failure(name, result["page"], error["code"], error["detail"]))


def output_name(name: str) -> str:
    """The name of an input's outputs, before their suffix: its own, unless too long or taken by ours."""
    folder, slash, last = name.rpartition("/")
    data = last.encode()
    if len(data) > LONGEST_NAME:
        digest = hashlib.sha256(data).hexdigest()[:8]
        last = f"{data[: LONGEST_NAME - 9].decode(errors='ignore')}~{digest}"
    return "summary~input" if name == "summary" else f"{folder}{slash}{last}"
