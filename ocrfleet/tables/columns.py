"""What the tables are made of: one `metadata`, names for constraints, and the columns that recur."""

from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, DateTime, Integer, MetaData, func

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """The column holds one of the names."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def time(name: str, *, null: bool = True) -> Column[Any]:
    """A timestamp; a mandatory one is set by the database, whose clock is the only one."""
    return Column(name, DateTime(timezone=True), nullable=null, server_default=None if null else func.now())


def count(name: str, kind: type[Integer] = Integer) -> Column[Any]:
    """A number that starts at zero."""
    return Column(name, kind, nullable=False, server_default="0")
