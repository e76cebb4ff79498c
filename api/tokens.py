"""Tokens of lists: where the next page begins, opaque to the caller."""

import base64
import binascii
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import orjson

from api.problems import refused
from ocrfleet.texts import storable

T = TypeVar("T")


def write(*parts: object) -> str:
    """A token of these parts, each a number, a text or a time."""
    return base64.urlsafe_b64encode(orjson.dumps(parts)).decode()


def read(token: str, *kinds: Callable[[Any], Any]) -> tuple[Any, ...]:
    """Its parts, each made by its kind; ValidationFailed for what is no token of these kinds."""
    try:
        parts = orjson.loads(base64.urlsafe_b64decode(token))
        return tuple(_storable(kind(part)) for kind, part in zip(kinds, parts, strict=True))
    except (binascii.Error, ValueError, TypeError, AttributeError, OverflowError) as exc:
        raise refused(("query:page_token", "is none that this API has given out")) from exc


def _storable(part: T) -> T:
    """The record has neither larger numbers nor such texts, nor times without their zone."""
    if isinstance(part, int) and abs(part) >= 2**63:
        raise ValueError(part)
    if isinstance(part, str):
        storable(part)
    if isinstance(part, datetime) and part.tzinfo is None:
        raise ValueError(part)
    return part
