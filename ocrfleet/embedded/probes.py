"""Whether a process serves, asked over bare sockets and files: no client library is imported for it."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT = 0.5


def is_ready(probe: str, pid: int) -> bool:
    """`postmaster:FILE`, `redis://:password@host:port`, or `http://host:port/path` (200)."""
    url = urlsplit(probe)
    try:
        if url.scheme == "postmaster":
            lines = Path(url.path).read_text().splitlines()
            # The file of a killed server may still be there.
            return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"
        if url.scheme == "redis":
            return b"+PONG" in _ask(url.hostname, url.port, f"AUTH {url.password}\r\nPING\r\nQUIT\r\n")
        return b" 200 " in _ask(url.hostname, url.port, f"GET {url.path}?{url.query} HTTP/1.0\r\n\r\n")[:16]
    except OSError:
        return False


def _ask(host: str | None, port: int | None, request: str) -> bytes:
    with socket.create_connection((host or "127.0.0.1", port or 80), timeout=TIMEOUT) as connection:
        connection.sendall(request.encode())
        answer = b""
        while received := connection.recv(4096):
            answer += received
        return answer
