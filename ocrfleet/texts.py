"""Texts from outside, as the record can keep them."""

from typing import Annotated

from pydantic import AfterValidator


def storable(value: str) -> str:
    """The text itself; ValueError for one with a NUL or with half of a surrogate pair, which PostgreSQL refuses."""
    if "\0" in value:
        msg = "must not contain NUL characters"
        raise ValueError(msg)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            msg = f"must not contain half of a surrogate pair, as it does at character {exc.start}"
            raise ValueError(msg) from None
    return value


Text = Annotated[str, AfterValidator(storable)]
