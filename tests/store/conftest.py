"""The record that each test of the store fills."""

import pytest
from builders import Record

from ocrfleet.db import Database


@pytest.fixture
def record(database: Database) -> Record:
    """A fresh record with its default tenant."""
    return Record(database)
