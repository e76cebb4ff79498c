"""Frames of JSON between the engine `rapidocr` and its processes: four bytes of length, then the message."""

import struct
from typing import Any

import orjson

HEADER = struct.Struct("!I")


def pack(message: dict[str, Any]) -> bytes:
    """One frame."""
    body = orjson.dumps(message)
    return HEADER.pack(len(body)) + body
