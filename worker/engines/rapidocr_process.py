"""The child process of the engine `rapidocr`: reads pages one after the other until its input ends.

`python -m worker.engines.rapidocr_process PARENT_PID PIXELS_FD MAX_PAGES`: frames of JSON come on stdin and go to stdout, the
pixels of the page (RGB) lie at the beginning of the file behind PIXELS_FD.
"""

import mmap
import os
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import orjson

from ocrfleet.processes import bind_to
from worker.engines.frames import HEADER, pack
from worker.engines.plain import (
    LOW_CONFIDENCE,
    is_blank,
    language,
    mean_confidence,
    paragraphs,
    rows_of,
)
from worker.engines.rapidocr_reader import PageReader, Reading

NICE = 5
"""Below everything else on the machine, so that the API and the databases answer while pages are read."""
_MAX_RESIDENT = 2 * 1024**3
"""A process that has grown to so many bytes is replaced, like one that has read MAX_PAGES."""


def read_page(reader: PageReader, fd: int, request: dict[str, Any]) -> dict[str, Any]:
    """The members of a PageResult, and `empty` when there is something on the page but no text was found."""
    height, width = request["height"], request["width"]
    with mmap.mmap(fd, height * width * 3, access=mmap.ACCESS_READ) as shared:
        pixels = np.ndarray((height, width, 3), np.uint8, shared)
        page = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), dtype=np.uint8)
        del pixels
    reading = reader.read(page)
    if not reading.texts and not is_blank(page):
        return {"empty": True}
    return _result(reading, request["task"])


def _result(reading: Reading, task: str) -> dict[str, Any]:
    rows = rows_of(reading.quads, reading.texts, reading.rows)
    text = "\n".join(row.text for row in rows)
    warnings: list[str] = []
    if not text:
        warnings.append("blank_page")
    if mean_confidence(reading.texts, reading.scores) < LOW_CONFIDENCE:
        warnings.append("low_confidence")
    if task == "parse":
        warnings.append("plain_paragraphs")
    low, high = reading.quads.min(axis=1), reading.quads.max(axis=1)
    boxes = np.concatenate([np.floor(low), np.ceil(high)], axis=1).astype(int).tolist()
    order = [i for row in reading.rows for i in row]
    return {
        "text": text,
        "markdown": paragraphs(rows) if task == "parse" else None,
        "regions": [(reading.texts[i], boxes[i], round(reading.scores[i], 4)) for i in order],
        "language": language(text),
        "warnings": warnings,
        "rotation": reading.rotation,
    }


def _answer(reader: PageReader, fd: int, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return read_page(reader, fd, request)
    except MemoryError as exc:
        return {"error": "engine_oom", "detail": str(exc)}
    # Whatever a library throws over a page is that page's error and not the end of the process.
    except Exception as exc:  # noqa: BLE001
        oom = "bad_alloc" in str(exc) or "Failed to allocate" in str(exc)
        return {"error": "engine_oom" if oom else "internal", "detail": f"{type(exc).__name__}: {exc}"}


def _resident() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * mmap.PAGESIZE if statm.exists() else 0


def _send(pipe: BinaryIO, message: dict[str, Any]) -> None:
    pipe.write(pack(message))
    pipe.flush()


def main() -> None:
    """Serve until the input ends or the process has grown old."""
    bind_to(int(sys.argv[1]))
    fd, max_pages = int(sys.argv[2]), int(sys.argv[3])
    # The parent takes care of Ctrl-C; what libraries print must not get between the frames.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    reader = PageReader()
    _send(replies, {"ready": True})
    pages = 0
    while header := sys.stdin.buffer.read(HEADER.size):
        request = orjson.loads(sys.stdin.buffer.read(HEADER.unpack(header)[0]))
        answer = _answer(reader, fd, request)
        pages += 1
        last = pages >= max_pages or _resident() > _MAX_RESIDENT
        _send(replies, answer | {"last": last})
        if last:
            return


if __name__ == "__main__":
    main()
