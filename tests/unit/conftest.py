"""Fixtures of the unit tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Real and nasty inputs that the project may not ship."""
    path = Path(__file__).resolve().parents[3] / "shared" / "corpus"
    if not path.is_dir():
        pytest.skip("the corpus is not on this machine")
    return path
