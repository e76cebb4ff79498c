"""Locked files that the kernel frees with their holder: one worker per device, and proof that a worker is dead."""

import fcntl
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from ocrfleet.errors import StartFailed
from ocrfleet.settings import Settings
from worker.devices import Device
from worker.identity import node_name

_LONGEST = 64
_TRIES, _BLINK = 20, 0.01


class HostLock:
    """One file of this host and user, held until `release` or the death of this process; it says who held it last."""

    def __init__(self, name: str, folder: Path | None = None) -> None:
        # Not the state folder, which two supervisors may have each their own of, or several hosts one.
        self._folder = folder or Path(tempfile.gettempdir()) / f"ocrfleet-devices-{os.getuid()}"
        self.path = self._folder / f"{name.replace('/', '-')}.lock"
        self._held: list[int] = []

    def acquire(self) -> bool:
        """Become the only holder, if nobody is; StartFailed where the folder is somebody else's."""
        folder = self._open_folder()
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._held = [file, folder]
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            return False
        return True

    def holder(self) -> str:
        """What the last holder signed with; empty if none has."""
        try:
            return self.path.read_bytes()[:_LONGEST].decode(errors="replace")
        except FileNotFoundError:
            return ""

    def sign(self, holder: str) -> None:
        """Say who holds it."""
        os.ftruncate(self._held[0], 0)
        os.pwrite(self._held[0], holder.encode()[:_LONGEST], 0)

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


class DeviceLock(HostLock):
    """One worker per device, known to all supervisors of the user; signed with the holder's process id."""

    def __init__(self, device: Device, folder: Path | None = None) -> None:
        super().__init__(device.key, folder)
        self._device = device

    def take(self) -> None:
        """Become the only holder; StartFailed, with the process that is, if another holds it."""
        if not self.acquire():
            holder = self.holder() or "unknown"
            raise StartFailed(f"{self._device.name} has a worker already: process {holder} holds {self.path}")
        self.sign(str(os.getpid()))


class WorkerLock(HostLock):
    """Held by a worker as long as it lives: whoever can lock its file knows that the one who signed it is dead.

    Signed with the incarnation. It is no condition for work: where it cannot be had, a dead worker is known by its
    silence alone.
    """

    def __init__(self, config: Settings, folder: Path | None = None) -> None:
        self._fleet = sha256(config.database_url.encode()).hexdigest()[:12]
        super().__init__(f"worker-{node_name(config)}-{self._fleet}", folder)

    def succeed(self) -> UUID | None:
        """Take the lock; the incarnation of the worker that died with it, if one did and nobody else has told so."""
        try:
            for _ in range(_TRIES):
                if self.acquire():
                    return UUID(self.holder())
                threading.Event().wait(_BLINK)  # somebody may be looking whether it is held
        except (StartFailed, OSError, ValueError):
            pass
        return None

    def dead(self) -> Iterator[UUID]:
        """Workers of this fleet on this host that have died and have no successor yet.

        One counts as told when the caller asks for the next. Two who ask at once may both hear of it, which is harmless.
        """
        for path in set(self._folder.glob(f"worker-*-{self._fleet}.lock")) - {self.path}:
            with suppress(OSError, ValueError), path.open("r+") as file:
                # Shared, as others look too; the holder's is exclusive.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                yield UUID(file.read(_LONGEST))
                file.truncate(0)

    def sign_as(self, incarnation: UUID) -> None:
        """Let the next one know us."""
        if self._held:
            self.sign(str(incarnation))
