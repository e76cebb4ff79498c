"""What vllm.py knows of vllm_core.py, which it loads by name: vLLM itself has no place where types are checked."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from PIL import Image

from ocrfleet.catalogue import Parameters
from ocrfleet.errors import FleetError
from worker.engines.vllm_feed import Load
from worker.engines.vllm_pages import Geometry
from worker.outputs.generated import Generated


class Figures(Protocol):
    """What the engine says of itself after each step."""

    load: Load
    steps: int


class Core(Protocol):
    """One AsyncLLM, which is one process on one device."""

    geometry: Geometry
    figures: Figures
    exact: bool
    """Whether a page's tokens may not depend on what is read beside it."""

    @property
    def dead(self) -> bool: ...

    @property
    def unfinished(self) -> int:
        """Requests in the engine, those that wait there too."""
        ...

    def prompt(self, text: str) -> Sequence[int]:
        """The model's own chat template around the page and the text, as tokens."""
        ...

    def sampling(
        self, parameters: Parameters, *, most_repeats: int | None, schema: Mapping[str, Any] | None
    ) -> object:
        """How a page is to be read, for `generate`; one that repeats itself more often ends there."""
        ...

    def generate(
        self, request_id: str, prompt: Sequence[int], image: Image.Image, sampling: object, priority: int
    ) -> AsyncIterator[Any]:
        """An output with the first tokens, and one with the rest. The lower the priority's number, the sooner."""
        ...

    def generated(self, outputs: Sequence[Any]) -> Generated:
        """What the outputs of one request say together; `EngineOom` or `Internal` where the engine gave it up."""
        ...

    def translated(self, exc: Exception) -> FleetError:
        """The library's error as one of ours."""
        ...

    async def hold(self) -> None:
        """Requests wait until `release`, which begins them together."""
        ...

    async def release(self) -> None: ...

    def shutdown(self) -> None:
        """End the process; blocks."""
        ...
