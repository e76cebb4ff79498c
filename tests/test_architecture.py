"""The rules of the house that no linter knows."""

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SERVICES = ("api", "ocrfleet", "producer", "worker")
SKIPPED = {".git", ".venv", ".venv-vllm", "__pycache__", "build", "dist", "out", "node_modules"}
MAX_LINES = 300


def files(*suffixes: str) -> Iterator[Path]:
    """Our own files, told from tools' caches and installed code by the folder's name."""
    folders = [ROOT]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.is_dir():
                cache = path.name.endswith(("_cache", ".egg-info")) or path.name == ".hypothesis"
                if path.name not in SKIPPED and not cache:
                    folders.append(path)
            elif not suffixes or path.suffix in suffixes:
                yield path


MODULES = [path for path in files(".py") if "migrations/versions" not in path.as_posix()]


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("module", MODULES, ids=where)
def test_no_module_is_longer_than_300_lines(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("module", MODULES, ids=where)
def test_every_module_opens_with_a_sentence(module: Path) -> None:
    opening = (ast.get_docstring(ast.parse(module.read_text())) or "").split("\n\n")[0]
    assert re.match(r"\S.*[.!?:`)]$", opening, re.DOTALL), f"{where(module)} opens with {opening!r}"


def test_every_folder_of_code_is_a_package_that_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {path.parent.relative_to(ROOT) for path in MODULES if where(path).startswith(SERVICES)}
    assert {".".join(folder.parts) for folder in folders} == listed


@pytest.mark.parametrize("service", SERVICES)
def test_our_top_level_names_belong_to_us_alone(service: str) -> None:
    assert set(packages_distributions()[service]) == {"ocrfleet"}


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    # A checkout right below the root may share its name with a folder that a file means.
    own = rf"{re.escape(str(ROOT))}(?![\w-])|" if len(ROOT.parts) > 2 else ""
    pattern = re.compile(rf"(?<![\w.])(?:{own}/(?:home|Users)/\w+/|/root/)")
    assert matches(pattern) == []


def test_no_file_names_a_package_registry() -> None:
    option = r"--(?:extra-)?index-url[ =]|--find-links[ =]|PIP_INDEX_URL|UV_INDEX|registry\s*=(?!_OFFLINE)"
    assert matches(re.compile(rf"{option}|\bpypi\.org/simple|@ *file:///")) == []


def test_only_the_test_configuration_and_the_benches_name_the_shared_corpus() -> None:
    named = {line.split(":")[0] for line in matches(re.compile(r"(?:\.\.|/\w+)/shared\b"))}
    assert {name for name in named if not name.startswith("bench/")} <= {"tests/conftest.py"}


def matches(pattern: re.Pattern[str]) -> list[str]:
    """`file:line: text` of every match in a text file but this one."""
    found: list[str] = []
    for path in files():
        data = path.read_bytes()
        if path == Path(__file__) or b"\0" in data or path.suffix in {".png", ".jpg", ".pdf", ".tif"}:
            continue
        lines = data.decode(errors="replace").splitlines()
        found += [
            f"{where(path)}:{n}: {line[:100]}" for n, line in enumerate(lines, 1) if pattern.search(line)
        ]
    return found
