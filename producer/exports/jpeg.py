"""What the header of a JPEG says: whether its bytes can stand in a PDF as they are."""

import struct
from dataclasses import dataclass

_ALONE = {0x01, *range(0xD0, 0xD8)}
"""Markers without a length."""
_PLAIN = {0xC0, 0xC1, 0xC2}
"""Frames that every viewer decodes: baseline, extended, progressive."""
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_JFIF, _EXIF = 0xE0, 0xE1
_ORIENTATION = 0x0112
_MOST_SEGMENTS = 1000


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A JPEG that a PDF can hold, upright."""

    width: int
    height: int
    components: int
    """1: gray, 3: colour."""
    dpi: float | None
    """What its header claims, if it claims a resolution."""


def look(data: bytes) -> Jpeg | None:
    """None for what is no JPEG, is stored turned, or has an encoding that not every viewer decodes."""
    at, dpi = 2, None
    for _ in range(_MOST_SEGMENTS):
        if data[at : at + 1] != b"\xff" or at + 4 > len(data):
            return None
        marker = data[at + 1]
        if marker in _ALONE or marker == 0xFF:
            at += 1 if marker == 0xFF else 2
            continue
        segment = data[at + 4 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        if marker in (_SCAN, _END) or (marker in _FRAMES and marker not in _PLAIN):
            return None
        if marker in _PLAIN:
            return _frame(segment, dpi)
        if marker == _JFIF and segment[:5] == b"JFIF\0":
            dpi = _density(segment)
        if marker == _EXIF and segment[:6] == b"Exif\0\0" and _orientation(segment[6:]) != 1:
            return None
        at += 4 + len(segment)
    return None


def _frame(segment: bytes, dpi: float | None) -> Jpeg | None:
    if len(segment) < 6:
        return None
    precision, height, width, components = struct.unpack_from(">BHHB", segment)
    names = segment[6::3][:components]
    # Red, green and blue as they are: without a marker of Adobe's only some viewers know it by these names.
    readable = precision == 8 and components in (1, 3) and names != b"RGB"
    return Jpeg(width, height, components, dpi) if readable and width and height else None


def _density(segment: bytes) -> float | None:
    if len(segment) < 12:
        return None
    unit, across, down = struct.unpack_from(">BHH", segment, 7)
    factor = {1: 1.0, 2: 2.54}.get(unit)
    return across * factor if factor and across == down and 50 <= across * factor <= 2400 else None


def _orientation(tiff: bytes) -> int | None:
    """That of an Exif block, 1 if it says none; None if it cannot be read."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, first)
        for n in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, first + 2 + 12 * n)
            if tag == _ORIENTATION:
                return value
    except struct.error:
        return None
    return 1
