"""What an answer of an OpenAI-compatible server other than 200 means for the page, and for the server."""

import email.utils
import re
import time
from contextlib import suppress

import httpx
import orjson

from ocrfleet.errors import (
    EngineCrashed,
    EngineOom,
    FleetError,
    NoCapacity,
    PromptTooLong,
    RateLimited,
    ValidationFailed,
)
from worker.engines.openai_messages import EXTRAS

_TOO_LONG = re.compile(
    r"context length|maximum model length|max_model_len|too (?:long|large)|max_tokens", re.I
)
_MAX_SAID = 500


class Again(Exception):  # noqa: N818 (a verdict, as in worker/retry.py)
    """The same request may succeed later; `error` is what the page gets when it never does."""

    def __init__(self, error: FleetError, *, after: float = 0.0, busy: bool = False) -> None:
        super().__init__(error.detail)
        self.error = error
        self.after = after
        """Seconds that the server asked for."""
        self.busy = busy
        """The server works, and has too much to do."""


class Unknown(Exception):  # noqa: N818
    """The server does not know the member `name` of EXTRAS."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def refusal(response: httpx.Response) -> Exception:
    """What to raise for a status other than 200."""
    status = response.status_code
    said = f"the server answered {status}: {_message(response)}"
    if status in (429, 503):
        after = retry_after(response)
        error = (RateLimited if status == 429 else NoCapacity)(said, retry_after=after)
        return Again(error, after=after, busy=True)
    if status == 413:
        # Fewer pixels are fewer bytes.
        return EngineOom(f"the page is too large for the server: {said}")
    if status in (400, 422):
        return _bad_request(said)
    return Again(EngineCrashed(said))


def _bad_request(said: str) -> Exception:
    if _TOO_LONG.search(said):
        return PromptTooLong(
            f"page, prompt and output are longer than the model takes; lower max_tokens or max_pixels: {said}"
        )
    name = next((name for name in EXTRAS if name in said), None)
    return Unknown(name) if name else ValidationFailed(said)


def retry_after(response: httpx.Response) -> float:
    """Seconds by the header Retry-After, which has them or a date; 0 without it."""
    given = response.headers.get("Retry-After", "")
    with suppress(ValueError):
        return max(0.0, float(given))
    with suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    return 0.0


def _message(response: httpx.Response) -> str:
    with suppress(ValueError, LookupError, TypeError):
        return str(orjson.loads(response.content)["error"]["message"])[:_MAX_SAID]
    return response.text[:_MAX_SAID]
