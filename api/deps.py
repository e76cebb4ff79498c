"""What handlers are given: the caller, and the services that the app was started with.

There is no session among them: a handler opens `database.transaction()` itself, so that its commit comes before the
answer.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from redis.asyncio import Redis

from api.caches import Callers, Liveness, Recent
from api.rates import Rates
from api.waiting import Followers, JobWatch
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import NotFound
from ocrfleet.outbound import Outbound
from ocrfleet.presign import Presigner
from ocrfleet.settings import Settings
from ocrfleet.store.tenants import Caller


@dataclass(frozen=True, slots=True)
class Services:
    """Built once, when the app starts."""

    settings: Settings
    database: Database
    blobs: Blobs
    broker: Redis
    watch: JobWatch
    followers: Followers
    liveness: Recent[Liveness]
    callers: Callers
    rates: Rates
    outbound: Outbound
    presigner: Presigner | None
    """None: the store takes no uploads."""


# Async, though it waits for nothing: a plain function would cost each request a thread.
async def _services(request: Request) -> Services:
    return request.state.services


GivenServices = Annotated[Services, Depends(_services)]
_bearer = HTTPBearer(scheme_name="key", bearerFormat="ocrk_<id>_<secret>", auto_error=False)


# The bearer is named for the documentation: who calls was found before the body was read, in api/access.py.
async def _caller(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        raise NotFound(f"There is no route {request.method} {request.url.path}.")
    return caller


GivenCaller = Annotated[Caller, Depends(_caller)]
