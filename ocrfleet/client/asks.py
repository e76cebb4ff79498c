"""Asking the API: the one policy of tries, waits and pages that every call goes through."""

import random
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from ocrfleet.client.errors import BUSY, ApiError, UnreachableError
from ocrfleet.client.steps import Close, Emit, Pause, Send, Steps, Stream

LONGEST_WAIT = 60.0
"""Seconds; a server that is away for longer is asked again then, and a quota that is used up for longer is told."""
LONGEST_BACKOFF = 5.0
IN_FLIGHT = "idempotency_in_flight"
"""The code of a 409: an earlier try of this call is still being answered."""
_CONFLICT, _TOO_MANY = 409, 429
_PROXIES = frozenset({502, 504})
"""From a proxy that did not reach the API; from the API itself they are an answer."""
HOPELESS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
"""Errors of a transport that another try would meet too."""
_chance = random.Random()  # noqa: S311 (jitter)


class Calls:
    """What the mixins of calls stand on. Every call may be repeated: a POST carries a key that makes it one act.

    `attempts` bounds the tries of one call, connecting included.
    """

    url: str
    attempts: int

    def ask(self, send: Send) -> Steps[httpx.Response]:
        """Send until an answer that stands. ApiError for a refusal, UnreachableError when all tries were in vain."""
        for attempt in range(1, self.attempts + 1):
            last = attempt == self.attempts
            try:
                response: httpx.Response = yield send
            except httpx.TransportError as exc:
                if last or isinstance(exc, HOPELESS):
                    raise UnreachableError(f"no answer from {self.url}: {exc or type(exc).__name__}") from exc
                wait = backoff(attempt)
            else:
                if response.is_success:
                    return response
                yield Close(response)
                if last or not worth_another_try(response):
                    raise ApiError(response)
                wait = retry_after(response) or backoff(attempt)
            yield Pause(wait)
        raise UnreachableError("no attempt was allowed")

    def get(
        self,
        path: str,
        query: Mapping[str, Any] | httpx.QueryParams | None = None,
        *,
        timeout: float | None = None,
    ) -> Steps[Any]:
        """The JSON that a GET answers; `timeout`: seconds of silence, None: the client's."""
        params = httpx.QueryParams(query) if query is not None else None
        return (yield from self.ask(Send(method="GET", path=path, params=params, timeout=timeout))).json()

    def send(self, method: str, path: str, body: object = None) -> Steps[Any]:
        """The JSON that a call with this body answers; a POST carries a key of its own, the same in every try."""
        content = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        if method == "POST":
            headers["Idempotency-Key"] = str(uuid.uuid4())
        response = yield from self.ask(Send(method=method, path=path, content=content, headers=headers))
        return response.json() if response.content else None

    def listed(self, path: str, query: Mapping[str, Any] | httpx.QueryParams) -> Stream[Any]:
        """Every member of a list, fetched page by page as the caller goes on."""
        params = httpx.QueryParams(query)
        while True:
            page = yield from self.get(path, params)
            for one in page["data"]:
                yield Emit(one)
            if not page.get("next_page_token"):
                return
            params = params.set("page_token", page["next_page_token"])


def part(value: str) -> str:
    """A value as one part of a path."""
    return quote(value, safe="")


def given(**members: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures, jittered: clients that failed together come back apart."""
    longest = min(0.125 * 2**failures, LONGEST_BACKOFF)
    return _chance.uniform(longest / 2, longest)


def retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks us to wait; 0 if it does not say."""
    return min(_asked_wait(response), LONGEST_WAIT)


def _asked_wait(response: httpx.Response) -> float:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0


def worth_another_try(response: httpx.Response) -> bool:
    """Whether the refusal may pass soon: the server was busy, out of reach, or is still answering an earlier try."""
    if response.status_code in BUSY:
        return response.status_code != _TOO_MANY or _asked_wait(response) <= LONGEST_WAIT
    is_problem = response.headers.get("Content-Type", "").startswith("application/problem+json")
    if response.status_code in _PROXIES:
        return not is_problem
    return response.status_code == _CONFLICT and ApiError(response).code == IN_FLIGHT
