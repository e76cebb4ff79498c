"""ZIP and TAR as containers of files: their members, and the bytes of one; for a process that has little to lose."""

import codecs
import os
import struct
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from ocrfleet.documents import ArchiveType
from ocrfleet.errors import (
    CorruptFile,
    DecompressionBomb,
    EmptyFile,
    EncryptedArchive,
    FileTooLarge,
    FleetError,
    InputNotFound,
    TooManyEntries,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    # Only a name for the type checker: the sandbox's processes start without pydantic.
    from ocrfleet.settings import Settings

MAX_NAME = 1024
_FREE = 64 * 1024 * 1024
"""Bytes that any archive may inflate to, whatever the ratio."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DIRECTORY_END, _DIRECTORY_ENTRY = struct.Struct("<4s4H2LH"), 46 + MAX_NAME
_ENCRYPTED = 1
_LINK = 0o120000
_JUNK = frozenset({"__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini"})
_DOCUMENTS = frozenset({"[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF"})
"""Members by which a ZIP is an office document, an e-book or a program, and no container of scans."""


# Of names in a ZIP that are not UTF-8; a confined process may not be able to load it any more.
codecs.lookup("cp437")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an archive may hold."""

    entries: int
    total_bytes: int
    """Of all members, inflated."""
    member_bytes: int
    ratio: int
    """Of the total to the archive's own bytes."""

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        return cls(
            settings.max_archive_entries,
            settings.max_archive_bytes,
            settings.max_object_bytes,
            settings.max_archive_ratio,
        )

    def inflated(self, size: int) -> int:
        """Bytes that an archive of `size` bytes may inflate to."""
        return min(self.total_bytes, max(_FREE, self.ratio * size))


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive; `code`: why it cannot be read."""

    name: str
    size: int
    code: str | None = None
    detail: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Such as `limit` and `actual`."""

    @classmethod
    def broken(cls, name: str, size: int, error: FleetError) -> Self:
        return cls(name, size, error.code, error.detail, error.extra)


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    size: int
    is_file: bool
    fault: FleetError | None
    info: Any


def members(file: IO[bytes], kind: ArchiveType, size: int, bounds: Bounds) -> list[Member]:
    """The files of an archive of `size` bytes, in its order, without folders, links and what systems leave in them."""
    found: dict[str, Member] = {}
    total = 0
    for count, entry in enumerate(_entries(file, kind, bounds), 1):
        if count > bounds.entries:
            raise _too_many(count, bounds)
        if kind is ArchiveType.ZIP and entry.name in _DOCUMENTS:
            raise UnsupportedMediaType(f"The file is a ZIP that holds {entry.name}: no container of scans.")
        total += entry.size
        limit = bounds.inflated(size)
        if total > limit:
            detail = f"The archive of {size} bytes inflates to {total} bytes or more; the limit is {limit}."
            raise DecompressionBomb(detail, limit=limit, actual=total)
        if member := _member(entry, bounds):
            # Of two of one name the later one is meant, as by those who unpack.
            found.pop(member.name, None)
            found[member.name] = member
    if not found:
        raise EmptyFile("The archive has no files to read.", limit=1, actual=0)
    return list(found.values())


class Extractor:
    """Takes members out; where each member of the tar that it read last stands, it remembers."""

    def __init__(self) -> None:
        self._read: tuple[int, ...] = ()
        self._entries: dict[str, _Entry] = {}

    def extract(self, file: IO[bytes], kind: ArchiveType, name: str, bounds: Bounds) -> bytes:
        """The bytes of the last member that `members` would name so."""
        if kind is ArchiveType.GZIP:
            return _streamed(file, name, bounds)
        with _opened(file, kind, bounds) as archive:
            if kind is ArchiveType.ZIP:
                entry = next((e for e in reversed(list(_of(archive))) if _wanted(e, name)), None)
            else:
                entry = self._known(archive, os.fstat(file.fileno())).get(name)
            return _bytes(archive, entry, name, bounds)

    def _known(self, archive: Any, found: os.stat_result) -> dict[str, _Entry]:  # noqa: ANN401
        """A tar has no directory: without this, each of its members would cost a look at all of them."""
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if identity != self._read:
            self._read, self._entries = (), {}
            self._entries = {_label(entry.name): entry for entry in _of(archive) if entry.is_file}
            self._read = identity
        return self._entries


def _streamed(file: IO[bytes], name: str, bounds: Bounds) -> bytes:
    # Behind us the stream is gone: a later member of the same name is read over the earlier one.
    data: bytes | None = None
    with _opened(file, ArchiveType.GZIP, bounds) as archive:
        for entry in _of(archive):
            if _wanted(entry, name):
                data = _bytes(archive, entry, name, bounds)
    return _bytes(None, None, name, bounds) if data is None else data


def _wanted(entry: _Entry, name: str) -> bool:
    return entry.is_file and _label(entry.name) == name


def _bytes(archive: Any, entry: _Entry | None, name: str, bounds: Bounds) -> bytes:  # noqa: ANN401
    if entry is None:
        raise InputNotFound(f"The archive has no member {name!r}.")
    if entry.fault:
        raise entry.fault
    with (
        archive.open(entry.info)
        if isinstance(archive, zipfile.ZipFile)
        else archive.extractfile(entry.info) as file
    ):
        data: bytes = file.read(bounds.member_bytes + 1)
    if len(data) > bounds.member_bytes:
        raise _too_large(name, len(data), bounds)
    if len(data) < entry.size:
        raise CorruptFile(f"The archive ends within its member {name!r}.")
    return data


def _member(entry: _Entry, bounds: Bounds) -> Member | None:
    """None for what is no file to be read."""
    if not entry.is_file:
        return None
    parts, label = entry.name.replace("\\", "/").split("/"), _label(entry.name)
    if ".." in parts or not parts[0] or ":" in parts[0]:
        fault = CorruptFile("The member's path leads out of its archive.")
        return Member.broken(label[:MAX_NAME], entry.size, fault)
    if any(part in _JUNK or part.startswith(".") for part in label.split("/")):
        return None
    if len(label) > MAX_NAME:
        fault = CorruptFile(f"The member's path has {len(label)} characters; the limit is {MAX_NAME}.")
        return Member.broken(label[:MAX_NAME], entry.size, fault)
    if entry.fault:
        return Member.broken(label, entry.size, entry.fault)
    if entry.size > bounds.member_bytes:
        return Member.broken(label, entry.size, _too_large(label, entry.size, bounds))
    return Member(label, entry.size)


def _label(name: str) -> str:
    """The path as the record can hold it."""
    plain = name.replace("\\", "/").replace("\0", "\ufffd").encode("utf-8", "backslashreplace").decode()
    return "/".join(part for part in plain.split("/") if part not in ("", "."))


def _entries(file: IO[bytes], kind: ArchiveType, bounds: Bounds) -> Iterator[_Entry]:
    with _opened(file, kind, bounds) as archive:
        yield from _of(archive)


def _opened(file: IO[bytes], kind: ArchiveType, bounds: Bounds) -> Any:  # noqa: ANN401
    if kind is ArchiveType.ZIP:
        _check_directory(file, bounds)
        return zipfile.ZipFile(file)
    mode: Literal["r|gz", "r:"] = "r|gz" if kind is ArchiveType.GZIP else "r:"
    try:
        return tarfile.open(fileobj=file, mode=mode, tarinfo=_Header)
    except (tarfile.ReadError, CorruptFile) as exc:
        if kind is ArchiveType.GZIP:
            raise UnsupportedMediaType(f"The gzip data hold no tar ({exc}).") from exc
        raise


def _of(archive: Any) -> Iterator[_Entry]:  # noqa: ANN401
    if isinstance(archive, zipfile.ZipFile):
        for one in archive.infolist():
            is_file = not one.is_dir() and (one.external_attr >> 16) & 0o170000 != _LINK
            yield _Entry(one.filename, one.file_size, is_file, _zip_fault(one), one)
    else:
        for one in archive:
            yield _Entry(one.name, one.size if one.isreg() else 0, one.isreg(), None, one)


def _zip_fault(info: zipfile.ZipInfo) -> FleetError | None:
    if info.flag_bits & _ENCRYPTED:
        return EncryptedArchive("The member is encrypted.")
    if info.compress_type not in _METHODS:
        return UnsupportedMediaType(f"The member is compressed by the method {info.compress_type}.")
    return None


def _check_directory(file: IO[bytes], bounds: Bounds) -> None:
    """Before millions of entries are read: how many there are by the ZIP's own word, and by its directory's size."""
    file.seek(0, 2)
    file.seek(max(0, file.tell() - _DIRECTORY_END.size - 0xFFFF))
    tail = file.read()
    file.seek(0)
    start = tail.rfind(b"PK\x05\x06")
    if start < 0 or len(tail) - start < _DIRECTORY_END.size:
        raise CorruptFile("The ZIP has no directory: it is truncated, or part of a larger one.")
    *_, entries, size, _, _ = _DIRECTORY_END.unpack_from(tail, start)
    if entries > bounds.entries or size > bounds.entries * _DIRECTORY_ENTRY:
        raise _too_many(entries, bounds)


class _Header(tarfile.TarInfo):
    """Finds fault with what tarfile overlooks."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as exc:
            raise CorruptFile(f"The tar is damaged or truncated ({exc}).") from exc


def _too_many(count: int, bounds: Bounds) -> TooManyEntries:
    return TooManyEntries(
        f"The archive has {count} entries or more; the limit is {bounds.entries}.",
        limit=bounds.entries,
        actual=count,
    )


def _too_large(name: str, size: int, bounds: Bounds) -> FileTooLarge:
    limit = bounds.member_bytes
    return FileTooLarge(
        f"The member {name!r} has {size} bytes; the limit is {limit}.", limit=limit, actual=size
    )
