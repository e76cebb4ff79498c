"""On a pair of versions known to be bad the engine refuses to start; let it, and the self-test shows why."""

import subprocess
import sys
from pathlib import Path

import pytest

from ocrfleet.settings import Settings, child_environment

BAD = Path(sys.prefix) / "bad"
"""A transformers below 5.20.1, by requirements/vllm-bad.txt."""
START = """
import asyncio
from ocrfleet.errors import EngineUnfit
from ocrfleet.settings import Settings
from worker.engines import load

async def main():
    try:
        await load(Settings()).start()
    except EngineUnfit as exc:
        print("unfit:", exc.detail, flush=True)
    else:
        print("fit", flush=True)

if __name__ == "__main__":
    asyncio.run(main())
"""


def start(script: Path, settings: Settings, **more: str) -> str:
    """What a start in the bad environment says."""
    script.write_text(START)
    members = ("engine", "device", "model", "model_dtype", "max_pixels", "max_model_len", "max_sequences")
    given = {f"OCRFLEET_{name.upper()}": str(getattr(settings, name)) for name in members}
    environment = child_environment(PYTHONPATH=str(BAD), **given, **more)
    ended = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    said = [line for line in ended.stdout.splitlines() if line.startswith(("unfit:", "fit"))]
    assert said, ended.stderr[-3000:]
    return said[-1]


@pytest.fixture(autouse=True)
def bad_environment() -> None:
    assert (BAD / "transformers").is_dir(), "make test-vllm installs it"


def test_a_known_bad_pair_is_refused_with_the_reason_and_what_to_install(
    settings: Settings, tmp_path: Path
) -> None:
    said = start(tmp_path / "start.py", settings)
    assert "transformers 5.20.0" in said
    assert "one another's text" in said
    assert "install vllm==0.33.0 and transformers==5.20.2" in said


def test_the_self_test_sees_that_pages_get_one_anothers_text(settings: Settings, tmp_path: Path) -> None:
    said = start(tmp_path / "start.py", settings, OCRFLEET_ALLOW_UNPROVEN_VERSIONS="true")
    assert said.startswith("unfit: self-test: page")
    assert "read together" in said
