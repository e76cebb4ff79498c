"""The state folder of one machine: its owner's lock, ports, secrets, logs and process ids."""

import fcntl
import json
import os
import secrets
import socket
from pathlib import Path
from typing import Any

from ocrfleet.errors import StartFailed, StateInUse

PORTS = range(12_000, 22_000)
"""Below the range of outgoing connections, so that a remembered port is still free at the next start."""


class State:
    """Opened without the lock it may be read only: what is remembered changes under its owner alone."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.logs = self.root / "logs"
        self.status = self.root / "status.json"
        self._file = self.root / "state.json"
        self._lock: int | None = None
        self._taken: set[int] = set()
        known: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.ports: dict[str, int] = known.get("ports", {})
        self._secrets: dict[str, str] = known.get("secrets", {})

    def lock(self) -> int:
        """Become the owner; the lock lasts until every holder of the descriptor is gone."""
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            owner = os.pread(descriptor, 20, 0).decode() or "unknown"
            os.close(descriptor)
            raise StateInUse(f"{self.root} is in use by process {owner}.") from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._lock = descriptor
        return descriptor

    def unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def secret(self, name: str) -> str:
        """A random text of 48 hexadecimal digits, made once."""
        if name not in self._secrets:
            self._secrets[name] = secrets.token_hex(24)
        return self._secrets[name]

    @property
    def api_key(self) -> str:
        return f"ocrk_{self.secret('api_key_id')[:12]}_{self.secret('api_key')}"

    @property
    def api_url(self) -> str:
        """Where the API of this folder listens while it runs; empty when it never ran."""
        return f"http://127.0.0.1:{self.ports['api']}" if "api" in self.ports else ""

    def port(self, name: str, *, span: int = 1, twin: int = 0) -> int:
        """The first of `span` free ports, the same as last time if they are free; `twin` above each is free too."""
        candidates = [self.ports.get(name, 0), *secrets.SystemRandom().sample(PORTS, 100)]
        for first in filter(None, candidates):
            wanted = {first + i + above for i in range(span) for above in {0, twin}}
            if not wanted & self._taken and all(map(_is_free, wanted)):
                self._taken |= wanted
                self.ports[name] = first
                return first
        raise StartFailed(f"No {span} free ports for {name} between {PORTS.start} and {PORTS.stop}.")

    def save(self) -> None:
        """Remember ports and secrets, readable for the owner only."""
        new = self._file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps({"ports": self.ports, "secrets": self._secrets}, indent=1))
        new.replace(self._file)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
