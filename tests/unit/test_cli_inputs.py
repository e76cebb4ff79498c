"""Which files `run` reads, and under which names."""

import os
from pathlib import Path

import pytest

from ocrfleet.cli.inputs import collect
from ocrfleet.errors import InputAccessDenied, InputNotFound


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def names(*paths: Path | str, exclude: tuple[Path, ...] = ()) -> list[str]:
    return [file.name for file in collect([str(path) for path in paths], exclude=exclude)]


def test_a_folder_is_read_whole_and_sorted_without_hidden_files_and_the_outputs(tmp_path: Path) -> None:
    make(
        tmp_path,
        "b.png",
        "a/z.pdf",
        "a/.cache/x.png",
        ".hidden.png",
        "out/a.json",
        "no-suffix",
        "a/out/kept.png",
    )
    assert names(tmp_path, exclude=(tmp_path / "out",)) == ["b.png", "no-suffix", "a/z.pdf", "a/out/kept.png"]


def test_a_hidden_file_is_read_when_it_is_named(tmp_path: Path) -> None:
    make(tmp_path, ".scan.png")
    assert names(tmp_path / ".scan.png") == [".scan.png"]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "x/.hidden")
    assert names(tmp_path, tmp_path / "x" / ".." / "a.png", tmp_path / "b.png") == ["a.png", "b.png"]


def test_names_that_meet_are_told_apart_from_the_common_parent(tmp_path: Path) -> None:
    make(tmp_path, "2025/jan/1.png", "2026/1.png", "2026/2.png")
    assert names(tmp_path / "2025" / "jan", tmp_path / "2026") == [
        "2025/jan/1.png",
        "2026/1.png",
        "2026/2.png",
    ]


def test_a_glob_that_the_shell_did_not_expand_is_expanded(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.pdf", "c/d.png")
    assert names(f"{tmp_path}/**/*.png") == ["a.png", "d.png"]


def test_a_file_with_a_glob_sign_in_its_name_is_itself(tmp_path: Path) -> None:
    make(tmp_path, "a[1].png", "a1.png")
    assert names(tmp_path / "a[1].png") == ["a[1].png"]


@pytest.mark.parametrize("path", ["missing.png", "nothing*.png"])
def test_a_path_that_is_not_there_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputNotFound, match=path.replace("*", r"\*")):
        names(tmp_path / path)


def test_a_link_to_nowhere_in_a_folder_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputNotFound, match=r"link\.png"):
        names(tmp_path)


def test_what_is_no_file_is_left_out_of_a_folder_and_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == ["a.png"]
    with pytest.raises(InputAccessDenied, match="pipe: not a regular file"):
        names(tmp_path / "pipe")


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="no files in"):
        names(tmp_path)


def test_a_name_that_is_not_utf_8_can_be_written_as_json(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Path(os.fsdecode(path)).write_bytes(b"x")
    [file] = collect([str(tmp_path)])
    assert file.name == "caf\\xe9.png"
    assert file.path.read_bytes() == b"x"
