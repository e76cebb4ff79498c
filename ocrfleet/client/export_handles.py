"""An export as an object that one goes on with."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar

from ocrfleet.client.calls import Async, Sync, call
from ocrfleet.client.exports import Export, ExportCalls
from ocrfleet.client.steps import Pause, Steps, Stream

T = TypeVar("T")
OFTEN, SELDOM = 0.25, 5.0
"""Seconds between two looks: ever longer."""


class ExportHandleCalls:
    """Methods of `ExportHandle` and of `AsyncExportHandle`, which awaits them."""

    def __init__(self, client: Any, export_id: str) -> None:  # noqa: ANN401 (a client of either kind)
        self.id = export_id
        self._client: Any = client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    @call
    def status(self) -> Steps[Export]:
        """How far the export is."""
        return ExportCalls.export.steps(self._client, self.id)

    @call
    def wait(self, timeout: float | None = None) -> Steps[Export]:
        """Wait until all is written, and return what it is then; look at its `state` and `failed`.

        TimeoutError after `timeout` seconds: the export goes on.
        """
        begun, pause = time.monotonic(), OFTEN
        while True:
            export = yield from ExportCalls.export.steps(self._client, self.id)
            if export["finished_at"]:
                return export
            left = pause if timeout is None else begun + timeout - time.monotonic()
            if left <= 0:
                msg = f"export {self.id} is still {export['state']} after {timeout:g} s; it goes on"
                raise TimeoutError(msg)
            yield Pause(min(pause, left))
            pause = min(SELDOM, 1.5 * pause)


class ExportHandle(ExportHandleCalls, Sync):
    """An export of a `Client`; threads may share it."""

    def carry_out(self, steps: Steps[T]) -> T:
        return self._client.carry_out(steps)

    def go_through(self, steps: Stream[T]) -> Iterator[T]:
        return self._client.go_through(steps)


class AsyncExportHandle(ExportHandleCalls, Async):
    """An export of an `AsyncClient`."""

    async def carry_out(self, steps: Steps[T]) -> T:
        return await self._client.carry_out(steps)

    def go_through(self, steps: Stream[T]) -> AsyncIterator[T]:
        return self._client.go_through(steps)
