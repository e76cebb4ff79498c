"""Who calls: found before anything of the body is read, in one place."""

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api import facade, scopes
from api.deps import Services
from ocrfleet.errors import FleetError, Unauthenticated
from ocrfleet.store.tenants import Caller
from ocrfleet.store.tenants import Scope as Right


class Access:
    """ASGI middleware within the edge: the key is known, its tenant asks no faster than it may, the key has the scope.

    Leaves the caller in the request's state. Routes that ask for no key are passed on, as is what is no route.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        right = scopes.needed(scope["method"], scope["path"]) if scope["type"] == "http" else scopes.OPEN
        if right is not None:
            request = Request(scope)
            try:
                request.state.caller = await _admit(request, right)
            except FleetError as exc:
                answer = facade.response(scope["path"], exc, request.state.request_id)
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _admit(request: Request, right: Right) -> Caller:
    services: Services = request.state.services
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated("Send `Authorization: Bearer ocrk_…`.")
    caller = await services.callers.find(key.strip())
    if caller.requests_per_minute is not None:
        await services.rates.admit(request, caller.tenant_id, caller.requests_per_minute)
    scopes.check(caller, right)
    return caller
