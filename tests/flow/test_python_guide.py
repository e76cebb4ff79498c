"""The guide to the SDK is true: its blocks run, one after the other, as a reader runs them, against a real fleet."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import encoded, noise

from ocrfleet.embedded.fleet import Fleet
from ocrfleet.settings import child_environment

GUIDE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCKS = re.findall(
    r"^## (.+?)\n(?:(?!^## ).)*?^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE
)
SAID = {
    "A folder of scans": r"completed partial 2\n",
    "Results while the job runs": r"read one.png 1 \[",
    "Why does it wait?": r"\w+ .*\.",
    "What failed, and once more": r"uploads/.*/broken.png corrupt_file .*\n",
    "Into a bucket": r"completed 3 s3://ocr/exports/.*/markdown/\n",
    "One page at once": r"\w",
    "With asyncio": r"dead(.|\n)*partial\n|partial\n",
    "Errors, tries, threads": r"unknown_task 422 choose a task|validation_failed 422 ",
}
"""What each prints."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("guide"), engine="null") as fleet:
        yield fleet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scans and a broken one."""
    folder = tmp_path_factory.mktemp("reader")
    scans = folder / "scans"
    (scans / "2026").mkdir(parents=True)
    (scans / "one.png").write_bytes(encoded(noise(1), "PNG"))
    (scans / "2026" / "two.png").write_bytes(encoded(noise(2), "PNG"))
    (scans / "broken.png").write_bytes(encoded(noise(3), "PNG")[:80])
    return folder


def test_every_part_of_the_guide_with_code_is_run() -> None:
    assert [name for name, _ in BLOCKS] == list(SAID)
    assert len(BLOCKS) == GUIDE.read_text().count("```python")


@pytest.mark.parametrize(("name", "code"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_the_guide_does_what_it_says(fleet: Fleet, folder: Path, name: str, code: str) -> None:
    opening = "from ocrfleet import Client\n"
    done = subprocess.run(
        [sys.executable, "-c", opening + code],
        env=child_environment(**fleet.environment), cwd=folder, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(SAID[name], done.stdout), (done.stdout, done.stderr)
