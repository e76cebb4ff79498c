"""Small archives of every odd kind, made when a test needs them."""

import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping


def zipped(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP of these files; a name that ends with / is a folder's."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: Mapping[str, bytes], mode: str = "w", *, links: Mapping[str, str] | None = None) -> bytes:
    """A TAR of these files, with `w:gz` gzip'd."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return out.getvalue()


def encrypted(archive: bytes, name: str) -> bytes:
    """The ZIP, which now says of the member that it is encrypted."""
    found = bytearray(archive)
    for sign, flags, length in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        at = -1
        while (at := found.find(sign, at + 1)) >= 0:
            if found[at + length : at + length + len(name)] == name.encode():
                found[at + flags] |= 1
    return bytes(found)


def overstated(archive: bytes, size: int) -> bytes:
    """The ZIP, whose directory now says that each member inflates to so many bytes."""
    found, at = bytearray(archive), -1
    while (at := found.find(b"PK\x01\x02", at + 1)) >= 0:
        found[at + 24 : at + 28] = struct.pack("<I", size)
    return bytes(found)


def crowded(archive: bytes, entries: int) -> bytes:
    """The ZIP, whose end now says that it has so many entries."""
    found = bytearray(archive)
    at = found.rfind(b"PK\x05\x06")
    found[at + 8 : at + 12] = struct.pack("<HH", entries, entries)
    return bytes(found)
