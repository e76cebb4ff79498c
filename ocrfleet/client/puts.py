"""Handing the bytes of an upload to the store, which knows nothing of the API's problem documents."""

import httpx

from ocrfleet.client.asks import HOPELESS, backoff, retry_after
from ocrfleet.client.errors import BUSY, StoreError
from ocrfleet.client.steps import Pause, Send, Steps

TIMEOUT = 120.0
"""Seconds of silence of the store."""
_EXCERPT = 200


def put(send: Send, attempts: int) -> Steps[None]:
    """Send until the store takes it: the same bytes may come twice. StoreError when it does not."""
    problem = "no attempt was allowed"
    for attempt in range(1, attempts + 1):
        wait = backoff(attempt)
        try:
            response: httpx.Response = yield send
        except httpx.TransportError as exc:
            problem, hopeless = str(exc) or type(exc).__name__, isinstance(exc, HOPELESS)
        else:
            if response.is_success:
                return
            problem = f"the store answers {response.status_code}: {response.text[:_EXCERPT]}"
            hopeless = not (response.is_server_error or response.status_code in BUSY)
            wait = retry_after(response) or wait
        if hopeless:
            break
        if attempt < attempts:
            yield Pause(wait)
    raise StoreError(problem)
