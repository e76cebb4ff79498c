"""What a call of the SDK may raise."""

from typing import Any

import httpx

from ocrfleet.advice import next_step

BUSY = frozenset({429, 503})
"""The server refused before it did anything: every call may be repeated."""


class ApiError(Exception):
    """The API refused: a problem document. `code` is one of ocrfleet.errors, or `http_<status>` from a proxy."""

    def __init__(self, response: httpx.Response) -> None:
        is_problem = response.headers.get("Content-Type", "").startswith("application/problem+json")
        problem: dict[str, Any] = response.json() if is_problem else {}
        self.status = response.status_code
        self.code: str = problem.get("code") or f"http_{self.status}"
        self.detail: str = problem.get("detail") or problem.get("title") or response.reason_phrase
        self.request_id: str | None = problem.get("request_id")
        self.errors: list[dict[str, str]] = problem.get("errors") or []
        self.retryable: bool = problem.get("retryable", self.status in BUSY)
        self.next_step: str | None = problem.get("next_step") or next_step(self.code)
        """What to do about it."""
        super().__init__(f"{self.code}: {self.detail}")


class UnreachableError(Exception):
    """The API did not answer, however often it was asked."""


class StoreError(UnreachableError):
    """The store did not take the bytes of an upload, however often they were sent; the API did answer."""
