"""The summary of `run`, for people."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

SHOWN = 10
"""Failures shown of each code."""


def summarise(summary: dict[str, Any], out: Path, line: Callable[[str], None]) -> None:
    """Counts, where the outputs are, and the failures by code with what to do about them."""
    files, pages = summary["files"], summary["pages"]
    speed = pages["total"] / summary["seconds"] if summary["seconds"] else 0
    line(f"{files['total']:,} files: {_parts(files)}")
    line(f"{pages['total']:,} pages: {_parts(pages)} in {summary['seconds']:.0f} s ({speed:.1f} pages/s)")
    if summary["error"]:
        line(f"the job failed: {summary['error']['code']}: {summary['error']['detail']}")
    for code, failures in summary["failures"].items():
        line("")
        line(f"{code} ({summary['errors'][code]:,}): {failures['next']}")
        for failure in failures["pages"][:SHOWN]:
            page = f" page {failure['page']}" if failure["page"] else ""
            line(f"  {failure['input']}{page}: {failure['detail']}")
        if summary["errors"][code] > SHOWN:
            line(f"  … and {summary['errors'][code] - SHOWN:,} more")
    line("")
    line(f"results: {out}/ (a .json and a text file per input, results.jsonl, summary.json)")


def _parts(counts: dict[str, int]) -> str:
    names = {"dead": "failed"}
    return ", ".join(
        f"{value:,} {names.get(name, name)}" for name, value in counts.items() if name != "total" and value
    )
