"""The local files that `run` reads: named, found in folders or by globs, each under a name of its own."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocrfleet.errors import InputAccessDenied, InputNotFound, ValidationFailed

STDIN = "-"


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file to read; `name` is its relative path, unique in the run, and names its outputs."""

    name: str
    path: Path


def collect(
    paths: Sequence[str], *, exclude: Iterable[Path] = (), stdin: Path | None = None
) -> list[LocalFile]:
    """The files in the order given, folders sorted; hidden files and `exclude` are left out of folders.

    A file of a folder is named from there, another by its file name; where two names meet, all are named from
    the common parent folder. InputNotFound and InputAccessDenied name the path at fault.
    """
    left_out = {absolute(path) for path in exclude}
    found: dict[Path, str] = {}
    for given in paths:
        for path, name in [(stdin, "stdin")] if given == STDIN and stdin else _files(given, left_out):
            found.setdefault(absolute(path), name)
    if not found:
        raise InputNotFound(f"no files in {', '.join(paths)} (hidden files are not read)")
    if len(set(found.values())) < len(found):
        root = os.path.commonpath([path.parent for path in found])
        found = {path: str(path.relative_to(root)) for path in found}
    files = [LocalFile(_text(name), path) for path, name in found.items()]
    if len({file.name for file in files}) < len(files):
        raise ValidationFailed("two file names differ only in bytes that are not UTF-8; rename one")
    return files


def absolute(path: Path | str) -> Path:
    """The path without `..`, links kept."""
    return Path(os.path.normpath(Path(path).absolute()))


def _files(given: str, left_out: set[Path]) -> Iterator[tuple[Path, str]]:
    paths = [Path(given)]
    if not os.path.lexists(given) and glob.has_magic(given):
        paths = sorted(Path(match) for match in glob.iglob(given, recursive=True))  # noqa: PTH207  may be absolute
    for path in paths:
        if path.is_dir():
            yield from _walk(path, left_out)
        else:
            _check(path)
            yield path, path.name
    if not paths:
        raise InputNotFound(f"{given}: no such file or folder")


def _walk(top: Path, left_out: set[Path]) -> Iterator[tuple[Path, str]]:
    for folder, folders, names in os.walk(top, onerror=_refuse):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if _wanted(here / name, left_out))
        for path in (here / name for name in sorted(names)):
            if _wanted(path, left_out) and (path.is_file() or not path.exists()):
                _check(path)
                yield path, str(path.relative_to(top))


def _wanted(path: Path, left_out: set[Path]) -> bool:
    return not path.name.startswith(".") and absolute(path) not in left_out


def _check(path: Path) -> None:
    if not path.exists():
        raise InputNotFound(
            f"{path}: {'the link points nowhere' if path.is_symlink() else 'no such file or folder'}"
        )
    if not path.is_file():
        raise InputAccessDenied(f"{path}: not a regular file")
    if not os.access(path, os.R_OK):
        raise InputAccessDenied(f"{path}: no permission to read it")


def _refuse(error: OSError) -> None:
    raise InputAccessDenied(f"{error.filename}: {error.strerror}") from error


def _text(name: str) -> str:
    """A name as it can stand in JSON and in a key, whatever bytes the file system holds."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
