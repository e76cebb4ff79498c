"""What the sandbox and its processes say to each other: JSON headers with their length, and bytes behind them."""

import json
import socket
import struct
import time
from typing import Any

MAX_HEADER = 1024 * 1024


def write_header(connection: socket.socket, header: dict[str, Any]) -> None:
    """Send a JSON header with its length before it."""
    data = json.dumps(header).encode()
    connection.sendall(struct.pack(">I", len(data)) + data)


def read_header(connection: socket.socket, deadline: float | None = None) -> dict[str, Any]:
    """Read a JSON header; EOFError at the end, TimeoutError at `deadline` (time.monotonic())."""
    size = bytearray(4)
    read_into(connection, memoryview(size), deadline)
    length = int.from_bytes(size, "big")
    if length > MAX_HEADER:
        raise ValueError(f"header of {length} bytes")
    data = bytearray(length)
    read_into(connection, memoryview(data), deadline)
    return json.loads(data)


def read_into(connection: socket.socket, view: memoryview, deadline: float | None) -> None:
    """Fill the view from the socket."""
    while view:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
        read = connection.recv_into(view)
        if not read:
            raise EOFError
        view = view[read:]
