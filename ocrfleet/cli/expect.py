"""`run --expect`: exactly the files meant to fail failed, with the code meant, and the others say what they should."""

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TypedDict

import orjson

from ocrfleet.api_types import Result
from ocrfleet.cli.outputs import RESULTS, text_of
from ocrfleet.errors import InputNotFound, ValidationFailed

SHOWN_LINES = 3
SHOWN_CHARACTERS = 72


class Expected(TypedDict):
    """How a file must end: the one error code of all its pages, or None and words of its text."""

    code: str | None
    contains: list[str]


@dataclass(slots=True)
class Actual:
    """How a file ended."""

    codes: set[str] = field(default_factory=set[str])
    text: str = ""


def load(path: Path) -> dict[str, Expected]:
    """What a file like samples/expected.json says, by input name."""
    try:
        return {
            name: {"code": line["code"], "contains": line["contains"]}
            for name, line in orjson.loads(path.read_bytes()).items()
        }
    except OSError as exc:
        raise InputNotFound(f"{path}: {exc.strerror}") from exc
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as exc:
        raise ValidationFailed(
            f'{path}: not a JSON object of {{"code":…, "contains":[…]}} by file name'
        ) from exc


def show_and_check(expected: dict[str, Expected], out: Path, put: Callable[[str], None]) -> bool:
    """Print every file's first lines of text or its code, and each way in which one is not as expected."""
    wrong = 0
    actual = {name: outcome for name, outcome in _read(out / RESULTS) if name in expected}
    for name, wanted in expected.items():
        got = actual.get(name)
        put("")
        put(f"{name}: {', '.join(sorted(got.codes)) or 'ok' if got else 'no result'}")
        for line in _first_lines(got.text if got else ""):
            put(f"    {line}")
        for complaint in complaints(wanted, got):
            wrong += 1
            put(f"    NOT AS EXPECTED: {complaint}")
    put("")
    put(f"{len(expected)} files checked, {wrong or 'none'} not as expected")
    return not wrong


def complaints(wanted: Expected, got: Actual | None) -> list[str]:
    """In which ways a file is not as expected."""
    if got is None:
        return ["it has no result"]
    code = {wanted["code"]} if wanted["code"] else set[str]()
    if got.codes != code:
        return [f"it must end with {wanted['code'] or 'text'}, not {', '.join(sorted(got.codes)) or 'text'}"]
    text = _plain(got.text)
    return [f"its text lacks {word!r}" for word in wanted["contains"] if _plain(word) not in text]


def _read(results: Path) -> Iterator[tuple[str, Actual]]:
    with results.open("rb") as file:
        records: Iterator[Result] = map(orjson.loads, file)
        for name, pages in groupby(records, key=lambda record: record["custom_id"] or ""):
            outcome = Actual()
            for page in pages:
                if "error" in page:
                    outcome.codes.add(page["error"]["code"])
                outcome.text += text_of(page) + "\n"
            yield name, outcome


def _first_lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [
        line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}…"
        for line in lines[:SHOWN_LINES]
    ]


def _plain(text: str) -> str:
    """Letters only as they matter: width, case and white space don't."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
