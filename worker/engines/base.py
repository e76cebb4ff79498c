"""The seam between the fleet and a model: one page in, its text and regions out.

The runner knows `Engine` and nothing of what is behind it. It calls everything on its own event loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ocrfleet.catalogue import Parameters
from ocrfleet.states import Lane

Pixels = NDArray[np.uint8]
"""An upright page, (height, width, 3), RGB, C-contiguous; without colour it may be a view of one plane, its last stride 0."""


@dataclass(frozen=True, slots=True)
class Region:
    """A line of text; `box` is x0, y0, x1, y1 in pixels of the page that was given."""

    text: str
    box: tuple[int, int, int, int]
    confidence: float | None = None
    label: str | None = None
    """What the region is, such as `table` or `header`, where the task asks for the layout."""


def _nobody_asks() -> None:
    pass


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page to recognise."""

    request_id: str
    """Unique among the requests in flight; `abort` takes it."""
    task: str
    pixels: Pixels | None
    """None for an engine with `reads_pixels` False."""
    lane: Lane = Lane.BULK
    """Interactive pages go before bulk ones that have not begun."""
    prompt: str | None = None
    parameters: Parameters = field(default_factory=Parameters)
    """For engines that generate; others have nothing to set."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    begun: Callable[[], None] = _nobody_asks
    """To be called when the work on the page begins: its time limit does not count the wait for its turn."""


@dataclass(frozen=True, slots=True)
class PageResult:
    """What the engine made of a page."""

    text: str
    markdown: str | None = None
    regions: list[Region] | None = None
    fields: dict[str, Any] | None = None
    language: str | None = None
    confidence: float | None = None
    """Mean over the page, 0 to 1; uncalibrated."""
    timings_ms: Mapping[str, int] = field(default_factory=dict[str, int])
    """Parts of its time that the engine itself can tell apart, such as `preprocess` and `engine_queue`."""
    warnings: tuple[str, ...] = ()
    usage: Mapping[str, int] = field(default_factory=dict[str, int])
    finish_reason: str = "stop"
    rotation: int = 0
    """Degrees clockwise by which the engine turned the page to read it; boxes and the result's image size are
    those of the turned, upright page."""


UNKNOWN = "unknown"
"""The revision of a model that nobody tells."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is, for the record and for the dispatcher."""

    name: str
    model: str
    revision: str
    tasks: tuple[str, ...]
    in_flight: int
    """How many pages it wants at once, at most."""


class Engine(Protocol):
    """A model behind the seam. It raises `FleetError`s only, such as `EngineCrashed` or `EngineOom`."""

    reads_pixels: bool
    """False: the runner skips fetch and decode (only the null engine, for measurements)."""

    async def start(self) -> EngineInfo:
        """Load the model; the worker takes no message before this returns."""
        ...

    def wanted(self) -> int:
        """How many pages it wants in flight now, by its own running and waiting figures; at most `in_flight`."""
        ...

    async def recognize(self, request: PageRequest) -> PageResult:
        """Read one page. Cancelling the awaiting task, like `abort`, stops the work on it."""
        ...

    async def abort(self, request_id: str) -> None:
        """Stop the work on a request; unknown ids are ignored."""
        ...

    async def healthy(self) -> bool:
        """Whether further pages may succeed; False makes the worker leave with its engine exit code."""
        ...

    async def stop(self) -> None:
        """Free the device and end every process that `start` began."""
        ...
