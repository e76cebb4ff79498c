"""How fast a tenant may ask: so many requests in each minute, counted in the broker for all replicas together."""

import asyncio
import math
import time
from collections.abc import Awaitable
from typing import NamedTuple, cast
from uuid import UUID

import structlog
from fastapi import Request
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ocrfleet.errors import RateLimited

log = structlog.get_logger()

WINDOW = 60
"""Seconds, from a tenant's first request in it."""
_PATIENCE = 0.1
_REST = 1.0
"""Seconds in which a broker that did not answer is not asked again."""
# One round trip: how many requests the window has seen with this one, and the milliseconds that are left of it.
_COUNT = """
local count = redis.call('INCR', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if left < 0 then left = tonumber(ARGV[1]) redis.call('PEXPIRE', KEYS[1], left) end
return {count, left}"""


class Window(NamedTuple):
    """A tenant's minute: requests so far, and the seconds until it ends."""

    asked: int
    reset: int


class Rates:
    """Whoever has no limit costs nothing here; without the broker nobody is refused."""

    def __init__(self, broker: Redis) -> None:
        self._broker = broker
        self._rests_until = 0.0

    async def admit(self, request: Request, tenant_id: UUID, limit: int) -> None:
        """Count the request, and leave the answer's headers with it; RateLimited when it is one too many."""
        if time.monotonic() < self._rests_until:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                count, left = await self._count(f"ocrfleet:rate:{tenant_id}")
        except (RedisError, OSError, TimeoutError) as exc:
            self._rests_until = time.monotonic() + _REST
            log.warning("rate_uncounted", error=repr(exc))
            return
        reset = max(1, math.ceil(left / 1000))
        request.state.window = Window(count, reset)
        request.state.headers = headers(limit, max(0, limit - count), reset)
        if count > limit:
            detail = f"Your tenant may send {limit} requests a minute; this is number {count}."
            raise RateLimited(detail, limit=limit, actual=count, retry_after=reset)

    async def _count(self, key: str) -> tuple[int, int]:
        asked = cast("Awaitable[list[int]]", self._broker.eval(_COUNT, 1, key, str(WINDOW * 1000)))
        count, left = await asked
        return count, left


def headers(limit: int, remaining: int, reset: int) -> dict[str, str]:
    """The three that everybody reads, and those of the IETF's draft."""
    return {
        "RateLimit-Limit": str(limit),
        "RateLimit-Remaining": str(remaining),
        "RateLimit-Reset": str(reset),
        "RateLimit-Policy": f'"tenant";q={limit};w={WINDOW}',
        "RateLimit": f'"tenant";r={remaining};t={reset}',
    }
