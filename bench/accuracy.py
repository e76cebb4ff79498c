"""Character error rate on labelled folders: `python -m bench.accuracy FOLDER… [--engine-only | --results F | --url U]`.

A folder has either `NAME.jpg` with `NAME.csv` (ICDAR-2019 SROIE: x1,y1,…,x4,y4,text) or a `ground_truth.json` of file
name → lines. Names ending in `_clean` and `_deg` are reported apart. `X_rotated_N.pdf` is compared with our own output
on `X.pdf`. Micro-averaged Levenshtein after NFKC, case folded, without white space, both sides in our line order.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from bench.engine_pages import page_files, recognise_files
from bench.scoring import Score, ordered_text, read_receipt, score
from ocrfleet.client import Client

VARIANTS = {"clean": "clean", "deg": "degraded"}
Texts = Mapping[str, str]


def truths(folder: Path) -> dict[str, str]:
    """The text each labelled file should give, in our line order."""
    labels = folder / "ground_truth.json"
    if labels.exists():
        named: dict[str, list[str]] = json.loads(labels.read_text(encoding="utf-8"))
        return {name: "\n".join(lines) for name, lines in named.items()}
    return {
        path.name: ordered_text(read_receipt(path.with_suffix(".csv")))
        for path in page_files(folder)
        if path.with_suffix(".csv").exists()
    }


def turned(folder: Path, texts: Texts) -> dict[str, str]:
    """For `X_rotated_N.pdf`, what was read on `X.pdf`."""
    bases = {path.name: f"{path.stem.split('_rotated_')[0]}.pdf" for path in folder.glob("*_rotated_*.pdf")}
    return {name: texts[base] for name, base in bases.items() if base in texts}


def group(folder: Path, name: str) -> str:
    """Under which heading a file is reported."""
    stem = PurePosixPath(name).stem
    variant = VARIANTS.get(stem.rpartition("_")[2])
    if "_rotated_" in stem:
        return f"{folder.name}, turned by {stem.rpartition('_')[2]}"
    return f"{folder.name}, {variant}" if variant else folder.name


def wanted(folder: Path) -> list[Path]:
    """The files of a folder that can be scored, and those they are compared with."""
    names = set(truths(folder))
    for path in folder.glob("*_rotated_*.pdf"):
        names |= {path.name, f"{path.stem.split('_rotated_')[0]}.pdf"}
    return [path for path in page_files(folder) if path.name in names]


def scores(folder: Path, texts: Texts) -> dict[str, Score]:
    """By heading; a file without a result counts with all its characters as errors."""
    totals: dict[str, Score] = {}
    for name, truth in {**truths(folder), **turned(folder, texts)}.items():
        heading = group(folder, name)
        totals[heading] = totals.get(heading, Score()) + score(truth, texts.get(name, ""))
    return totals


def result_texts(lines: Iterable[str]) -> dict[str, str]:
    """First pages of a results.jsonl, by file name; what failed gives no text."""
    texts: dict[str, str] = {}
    for line in lines:
        record: dict[str, Any] = json.loads(line)
        if record.get("state") == "succeeded" and record["page"] == 1:
            texts[PurePosixPath(record["key"]).name] = record["text"]
    return texts


def engine_texts(folder: Path, processes: int) -> dict[str, str]:
    """What the engine alone reads, the services left out."""
    run = recognise_files(wanted(folder), processes)
    return {name: result.text for name, result in run.results.items()}


def api_texts(folder: Path, client: Client) -> dict[str, str]:
    """What POST /v1/ocr answers, one file after the other."""
    return {
        path.name: client.recognize(path.read_bytes(), name=path.name).get("text", "")
        for path in wanted(folder)
    }


def report(folders: list[Path], read: Callable[[Path], Texts]) -> None:
    """A Markdown table on stdout."""
    print("| pages | number | characters | errors | CER |\n|---|---:|---:|---:|---:|")
    for folder in folders:
        for heading, total in sorted(scores(folder, read(folder)).items()):
            cells = f"{total.pages} | {total.characters} | {total.edits} | {total.cer:.2%}"
            print(f"| {heading} | {cells} |", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--engine-only", action="store_true", help="drive the engine, without services")
    source.add_argument("--results", type=Path, help="results.jsonl of `ocrfleet run`")
    source.add_argument("--url", help="submit to this API")
    parser.add_argument("--key", default="", help="its key")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    if args.engine_only:
        report(args.folders, lambda folder: engine_texts(folder, args.processes))
    elif args.results:
        texts = result_texts(args.results.read_text(encoding="utf-8").splitlines())
        report(args.folders, lambda _: texts)
    else:
        with Client(args.url, args.key) as client:
            report(args.folders, lambda folder: api_texts(folder, client))


if __name__ == "__main__":
    main()
