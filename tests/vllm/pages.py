"""Pages for a model whose text is noise: what it writes tells pages apart, and ends if its penalty is high."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from engine_support import page

from ocrfleet.catalogue import Parameters
from worker.engines.base import PageRequest

ENDING = Parameters(repetition_penalty=1.5, max_tokens=300)
"""No byte is written often, so that in the end there comes one that ends the text."""
LOOPING = Parameters(repetition_penalty=1.0, max_tokens=600)
LONG = Parameters(repetition_penalty=1.08, max_tokens=900)


def request(name: str, text: str, *, task: str = "text", **members: Any) -> PageRequest:
    given = {"parameters": ENDING} | members
    return PageRequest(name, task, page(*text.split("|"), width=480 + 16 * len(text)), **given)


def table(name: str, text: str) -> PageRequest:
    """A page whose repetitions nobody minds, read for as long as there is room."""
    return request(name, text, task="table", parameters=replace(LONG, repetition_penalty=1.0))


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.01)
