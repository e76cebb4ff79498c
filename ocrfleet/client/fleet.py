"""Calls about the fleet itself, and the page that is read at once."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import orjson

from ocrfleet.api_types import Result, TaskInfo
from ocrfleet.client.asks import Calls, given
from ocrfleet.client.calls import call
from ocrfleet.client.errors import UnreachableError
from ocrfleet.client.steps import Send, Steps

RECOGNIZE_TIMEOUT = 120.0


class FleetCalls(Calls):
    """Methods of `Client` and of `AsyncClient`, which awaits them."""

    @call
    def recognize(
        self,
        image: bytes,
        *,
        name: str = "image",
        task: str = "text",
        prompt: str | None = None,
        fields: Sequence[str] | None = None,
        output_schema: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Steps[Result]:
        """Read one image now, on the interactive lane: PNG, JPEG and so on, as bytes of the file.

        ApiError: `no_capacity` when the fleet stays busy, `rate_limited` when the day's quota is used up, `inference_timeout`, `unsupported_media_type`, `file_too_large`.
        """
        members = given(fields=fields, output_schema=output_schema, options=options)
        packed = {name: orjson.dumps(value).decode() for name, value in members.items()}
        ask = Send(
            method="POST",
            path="/v1/ocr",
            form={"task": task, **given(prompt=prompt), **packed},
            files={"file": (name, image)},
            timeout=RECOGNIZE_TIMEOUT,
        )
        return (yield from self.ask(ask)).json()

    @call
    def tasks(self) -> Steps[list[TaskInfo]]:
        """What can be done with a page, and whether this fleet can do it now."""
        return (yield from self.get("/v1/tasks"))["data"]

    @call
    def fleet(self) -> Steps[dict[str, Any]]:
        """The workers, what they do, and the pages that wait in each lane."""
        return self.get("/v1/fleet")

    @call
    def ready(self) -> Steps[dict[str, Any]]:
        """What /readyz says, ready or not: `checks` by server. Asked once, without patience."""
        try:
            response: httpx.Response = yield Send(method="GET", path="/readyz")
            return response.json()
        except (httpx.TransportError, ValueError) as exc:
            raise UnreachableError(f"no answer from {self.url}: {exc}") from exc
