"""The sandbox's processes, as the tests see them from outside."""

import threading
import time
from contextlib import suppress

import psutil


def children() -> list[psutil.Process]:
    """The sandbox's processes that this test process started."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if "ocrfleet.sandbox_child" in child.cmdline():
                found.append(child)
    return found


def new_child(before: list[psutil.Process]) -> psutil.Process:
    """The child started since `before`, once it is busy."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for child in children():
            with suppress(psutil.Error):
                if child not in before and child.cpu_times().user > 1.0:
                    return child
        threading.Event().wait(0.05)
    raise AssertionError("no child began to work")
