"""Which weights an engine stands on: a commit of a repository on the hub, or what a folder holds."""

import hashlib
from pathlib import Path

from ocrfleet.errors import EngineUnfit
from ocrfleet.settings import Settings

_TOLD = (".json", ".jinja")


def revision_of(settings: Settings) -> str:
    """`EngineUnfit` for a name on the hub without a commit: its branches move. Blocking."""
    if settings.model_revision:
        return settings.model_revision
    folder = Path(settings.model)
    if not folder.is_dir():
        raise EngineUnfit(
            f"{settings.model!r} is no folder here, and a model on the hub needs `model_revision`"
        )
    return fingerprint(folder)


def fingerprint(folder: Path) -> str:
    """A revision for a folder, which has none: names and sizes of its files, and what its small ones say."""
    found = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{file.relative_to(folder)} {file.stat().st_size}\n".encode())
        if file.suffix in _TOLD:
            found.update(file.read_bytes())
    return f"local-{found.hexdigest()[:16]}"
