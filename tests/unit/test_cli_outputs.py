"""The folder that `run` leaves."""

import json
from pathlib import Path
from typing import Any

import pytest

from ocrfleet.cli import expect, outputs
from ocrfleet.cli.outputs import Failure
from ocrfleet.cli.record import ResultsFile


def page(name: str, number: int | None, text: str | None = None, **more: Any) -> dict[str, Any]:
    record = {"custom_id": name, "page": number, **({} if text is None else {"text": text}), **more}
    return record if text is not None else record | {"error": {"code": "corrupt_file", "detail": "cut off"}}


def write(folder: Path, names: list[str], records: list[dict[str, Any]], task: str = "text") -> outputs.Tally:
    results = folder / "spool.jsonl"
    results.write_text("".join(json.dumps({"seq": seq, **one}) + "\n" for seq, one in enumerate(records, 1)))
    return outputs.write(folder / "out", names, results, task)


def test_pages_are_joined_in_page_order_however_they_came(tmp_path: Path) -> None:
    records = [
        page("a.pdf", 10, "ten"),
        page("b/c.png", 1, "other"),
        page("a.pdf", 2, "two"),
        page("a.pdf", 1, "one\n"),
    ]
    tally = write(tmp_path, ["b/c.png", "a.pdf"], records)
    assert (tmp_path / "out/a.pdf.txt").read_text() == "one\n\ntwo\n\nten\n"
    assert (tmp_path / "out/b/c.png.txt").read_text() == "other\n"
    whole = json.loads((tmp_path / "out/a.pdf.json").read_text())
    assert [one["page"] for one in whole["pages"]] == [1, 2, 10]
    ordered = [json.loads(line) for line in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert [(one["custom_id"], one["page"]) for one in ordered] == [
        ("b/c.png", 1),
        ("a.pdf", 1),
        ("a.pdf", 2),
        ("a.pdf", 10),
    ]
    assert tally.files == {"total": 2, "succeeded": 2, "partial": 0, "failed": 0, "unfinished": 0}


def test_failures_are_told_by_input_page_and_code(tmp_path: Path) -> None:
    records = [page("a.pdf", 1, "one"), page("a.pdf", 2), page("b.pdf", None)]
    tally = write(tmp_path, ["a.pdf", "b.pdf", "c.pdf"], records)
    assert tally.files == {"total": 3, "succeeded": 0, "partial": 1, "failed": 1, "unfinished": 1}
    assert tally.errors == {"corrupt_file": 2}
    assert tally.failures == [
        Failure("a.pdf", 2, "corrupt_file", "cut off"),
        Failure("b.pdf", None, "corrupt_file", "cut off"),
    ]
    assert not (tmp_path / "out/b.pdf.txt").exists()
    assert json.loads((tmp_path / "out/b.pdf.json").read_text())["failed"] == 1


def test_of_two_results_for_a_page_the_later_stands(tmp_path: Path) -> None:
    tally = write(tmp_path, ["a.png"], [page("a.png", 1), page("a.png", 1, "at last")])
    assert (tmp_path / "out/a.png.txt").read_text() == "at last\n"
    assert tally.errors == {}
    assert len((tmp_path / "out/results.jsonl").read_text().splitlines()) == 1


def test_parse_leaves_markdown(tmp_path: Path) -> None:
    write(tmp_path, ["a.png"], [page("a.png", 1, "plain", markdown="# Title")], "parse")
    assert (tmp_path / "out/a.png.md").read_text() == "# Title\n"


def test_a_blank_page_leaves_an_empty_text(tmp_path: Path) -> None:
    write(tmp_path, ["a.png"], [page("a.png", 1, "")])
    assert (tmp_path / "out/a.png.txt").read_text() == ""


def test_no_result_at_all_leaves_empty_outputs(tmp_path: Path) -> None:
    assert write(tmp_path, ["a.png"], []).files["unfinished"] == 1
    assert (tmp_path / "out/results.jsonl").read_text() == ""


def test_a_result_of_another_name_is_no_path_out_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, ["a.png"], [page("../../evil", 1, "x"), page("a.png", 1, "ok")])
    assert sorted(path.name for path in tmp_path.rglob("*.txt")) == ["a.png.txt"]


@pytest.mark.parametrize("name", ["summary", f"{'長' * 84}.png"], ids=["one of ours", "too long"])
def test_names_that_cannot_stand_get_another(tmp_path: Path, name: str) -> None:
    write(tmp_path, [name], [page(name, 1, "ok")])
    assert [path.read_text() for path in (tmp_path / "out").glob("*.txt")] == ["ok\n"]
    assert not (tmp_path / "out/summary.json").exists()


def test_a_line_cut_off_by_a_kill_is_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"seq":7}\n{"seq":8,"te')
    with ResultsFile(path) as file:
        assert file.cursor == "7"
    assert path.read_bytes() == b'{"seq":7}\n'


def test_expectations_compare_the_code_and_the_words() -> None:
    def told(code: str | None, contains: list[str], *codes: str, text: str = "") -> list[str]:
        return expect.complaints({"code": code, "contains": contains}, expect.Actual(set(codes), text))

    assert told(None, ["Total  12", "ＡＢ"], text="TOTAL\n12 ab") == []
    assert told(None, ["13"], text="12") == ["its text lacks '13'"]
    assert told("corrupt_file", [], "corrupt_file") == []
    assert told("corrupt_file", [], text="read!") == ["it must end with corrupt_file, not text"]
    assert told(None, [], "corrupt_file") == ["it must end with text, not corrupt_file"]
    assert told("corrupt_file", [], "corrupt_file", "internal") == [
        "it must end with corrupt_file, not corrupt_file, internal"
    ]
    assert expect.complaints({"code": None, "contains": []}, None) == ["it has no result"]
