"""What handlers are given: the caller, and the services that the app was started with.

There is no session among them: a handler opens `database.transaction()` itself, so that its commit comes before the
answer.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from redis.asyncio import Redis

from api import scopes
from api.caches import Callers, Liveness, Recent
from api.rates import Rates
from api.waiting import JobWatch
from ocrfleet.blobs import Blobs
from ocrfleet.db import Database
from ocrfleet.errors import Unauthenticated
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


async def _caller(
    request: Request,
    services: GivenServices,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Caller:
    """Who calls: the key is known, its tenant asks no faster than it may, and the key has the route's scope."""
    if bearer is None:
        raise Unauthenticated("Send `Authorization: Bearer ocrk_…`.")
    caller = await services.callers.find(bearer.credentials)
    if caller is None:
        raise Unauthenticated("The API key is malformed, unknown, expired or revoked.")
    if caller.requests_per_minute is not None:
        await services.rates.admit(request, caller.tenant_id, caller.requests_per_minute)
    scopes.check(caller, scopes.needed(request.method, request.scope["route"].path))
    return caller


GivenCaller = Annotated[Caller, Depends(_caller)]
