"""One worker per device of a host: a locked file for each, known to all supervisors of the user."""

import fcntl
import os
import stat
import tempfile
from pathlib import Path

from ocrfleet.errors import StartFailed
from worker.devices import Device


class DeviceLock:
    """Held until `release` or the death of this process; its file names the holder."""

    def __init__(self, device: Device, folder: Path | None = None) -> None:
        self._device = device
        # Not the state folder, which two supervisors may have each their own of, or several hosts one.
        self._folder = folder or Path(tempfile.gettempdir()) / f"ocrfleet-devices-{os.getuid()}"
        self._path = self._folder / f"{device.key.replace('/', '-')}.lock"
        self._held: list[int] = []

    def acquire(self) -> None:
        """Become the only holder; StartFailed, with the process that is, if another holds it."""
        folder = self._open_folder()
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.pread(file, 20, 0).decode() or "unknown"
            os.close(file)
            os.close(folder)
            detail = f"{self._device.name} has a worker already: process {holder} holds {self._path}"
            raise StartFailed(detail) from exc
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._held = [file, folder]

    def release(self) -> None:
        """Repeating it is harmless."""
        while self._held:
            os.close(self._held.pop())

    def _open_folder(self) -> int:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise StartFailed(f"{self._folder} belongs to somebody else")
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        # systemd-tmpfiles deletes what is old, but nothing in a folder that is locked.
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return descriptor
