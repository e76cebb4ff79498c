"""`make mutate`: takes out each guard of the protocol in turn, in a copy of the tree, and sees its test turn red."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest

from ocrfleet import db
from ocrfleet.embedded.fleet import Fleet
from ocrfleet.settings import Settings
from tests.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[1]
COPIED = ("api", "docs", "migrations", "ocrfleet", "producer", "samples", "tests", "worker", "pyproject.toml")
TIMEOUT, TIMEOUT_OF_ALL = 180.0, 1800.0
"""For the tests of one mutant, in seconds: one that hangs without its guard has turned red, too. And for all at first."""
NOWHERE = {"OCRFLEET_BROKER_URL": "redis://nowhere", "OCRFLEET_STORE_URL": "null://"}
TEMPLATE = "template_mutants"
# Every mutant's tests use one server: starting one takes longer than they do.
SERVER = f'''

@pytest.fixture(scope="session")
def postgres_url() -> str:
    return {{url!r}}


@pytest.fixture(scope="session")
def template() -> str:
    return "{TEMPLATE}"
'''


def main() -> int:
    """0 if every guard's test turned red without it."""
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        # Postgres, under a user of its own, has to reach its files.
        Path(folder).chmod(0o711)
        with Fleet(Path(folder, "servers"), services=(), extra=NOWHERE) as fleet:
            url = fleet.urls["postgres"]
            _make_template(url)
            return _run_all(Path(folder, "tree"), url)


def _run_all(tree: Path, url: str) -> int:
    width = max(len(mutant.guard) for mutant in MUTANTS)
    _copy(tree, url)
    named = sorted({test for mutant in MUTANTS for test in mutant.tests})
    code, output = _pytest(tree, named, TIMEOUT_OF_ALL)
    _say(f"{'all guards in place':{width}}  {'passed' if code == 0 else 'FAILED'}  {len(named)} tests")
    if code != 0:
        _say(output)
        return 1
    unproven = 0
    for mutant in MUTANTS:
        for path in COPIED:
            _remove(tree / path)
        _copy(tree, url)
        verdict = _try(tree, mutant)
        unproven += verdict != "killed"
        tests = ", ".join(test.rpartition("/")[2] for test in mutant.tests)
        _say(f"{mutant.guard:{width}}  {verdict}  {tests}")
    _say(f"{len(MUTANTS) - unproven} of {len(MUTANTS)} guards are proven by a test")
    return int(unproven > 0)


def _try(tree: Path, mutant: Mutant) -> str:
    """`killed` if each of the mutant's tests turned red."""
    file = tree / mutant.file
    source = file.read_text()
    if source.count(mutant.old) != 1:
        return f"NOT FOUND ({source.count(mutant.old)} times in {mutant.file})"
    file.write_text(source.replace(mutant.old, mutant.new))
    for test in mutant.tests:
        code, output = _pytest(tree, [test])
        if code == pytest.ExitCode.OK:
            return "SURVIVED"
        if code != pytest.ExitCode.TESTS_FAILED:
            _say(output)
            return f"BROKEN (pytest ended with {code})"
    return "killed"


def _pytest(tree: Path, tests: Sequence[str], timeout: float = TIMEOUT) -> tuple[int, str]:
    """Its exit code and output; run in the tree, it imports the tree's code and not what is installed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            [*command, f"--basetemp={tree.parent / 'basetemp'}"],
            cwd=tree,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return pytest.ExitCode.TESTS_FAILED, "it hung"
    return done.returncode, done.stdout + done.stderr


def _copy(tree: Path, url: str) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            tree.mkdir(exist_ok=True)
            shutil.copy(source, tree / name)
    with (tree / "tests" / "conftest.py").open("a") as conftest:
        conftest.write(SERVER.format(url=url))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _make_template(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    db.migrate(Settings(database_url=f"{url.rpartition('/')[0]}/{TEMPLATE}"))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
