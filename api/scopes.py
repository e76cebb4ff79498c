"""The scope that each route needs: one table, by method and path. Handlers know nothing of scopes.

A new route is added here, or tests/flow/api/test_api_scopes.py fails. `{}` stands for any parameter of the path.
"""

import re
from collections.abc import Mapping

from ocrfleet.errors import Forbidden
from ocrfleet.store.tenants import Caller, Scope

READ, SUBMIT, OPERATE, ADMIN, FLEET = Scope.READ, Scope.SUBMIT, Scope.OPERATE, Scope.ADMIN, Scope.FLEET
OPEN = None
"""The route asks for no key, or for one of its own kind."""

TABLE: Mapping[str, Mapping[str, Scope | None]] = {
    "/v1/jobs": {"GET": READ, "POST": SUBMIT},
    "/v1/jobs/{}": {"GET": READ, "PATCH": OPERATE, "DELETE": OPERATE},
    "/v1/jobs/{}/cancel": {"POST": OPERATE},
    "/v1/jobs/{}/pause": {"POST": OPERATE},
    "/v1/jobs/{}/resume": {"POST": OPERATE},
    "/v1/jobs/{}/retry": {"POST": OPERATE},
    "/v1/jobs/{}/explain": {"GET": READ},
    "/v1/jobs/{}/results": {"GET": READ},
    "/v1/jobs/{}/items": {"GET": READ},
    "/v1/jobs/{}/exports": {"GET": READ, "POST": SUBMIT},
    "/v1/jobs/{}/exports/{}": {"GET": READ},
    "/v1/exports": {"GET": READ},
    "/v1/exports/{}": {"GET": READ, "DELETE": OPERATE},
    "/v1/items/{}": {"GET": READ},
    "/v1/items/{}/attempts": {"GET": READ},
    "/v1/items/{}/pages": {"GET": READ},
    "/v1/uploads": {"GET": READ, "POST": SUBMIT},
    "/v1/uploads/{}": {"GET": READ, "DELETE": OPERATE},
    "/v1/uploads/{}/complete": {"POST": SUBMIT},
    "/v1/uploads/{}/parts": {"GET": READ},
    "/v1/ocr": {"POST": SUBMIT},
    "/v1/files": {"GET": READ, "POST": SUBMIT},
    "/v1/files/{}": {"GET": READ, "DELETE": OPERATE},
    "/v1/files/{}/content": {"GET": READ},
    "/v1/batches": {"GET": READ, "POST": SUBMIT},
    "/v1/batches/{}": {"GET": READ},
    "/v1/batches/{}/cancel": {"POST": OPERATE},
    "/v1/dead-letters": {"GET": READ},
    "/v1/dead-letters/{}": {"GET": READ},
    "/v1/dead-letters/{}/thumbnail": {"GET": READ},
    "/v1/dead-letters/discard": {"POST": OPERATE},
    "/v1/redrives": {"GET": READ, "POST": OPERATE},
    "/v1/redrives/{}": {"GET": READ},
    "/v1/tasks": {"GET": READ},
    "/v1/models": {"GET": READ},
    "/v1/models/{}": {"GET": READ},
    "/v1/fleet": {"GET": READ},
    "/v1/quota": {"GET": READ},
    "/v1/usage": {"GET": READ},
    "/v1/webhooks": {"GET": ADMIN, "POST": ADMIN},
    "/v1/webhooks/{}": {"GET": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN},
    "/v1/webhooks/{}/test": {"POST": ADMIN},
    "/v1/webhooks/{}/rotate-secret": {"POST": ADMIN},
    "/v1/webhooks/{}/deliveries": {"GET": ADMIN},
    "/v1/webhooks/{}/deliveries/{}/replay": {"POST": ADMIN},
    "/v1/webhooks/{}/replay": {"POST": ADMIN},
    "/v1/event-sources": {"GET": ADMIN, "POST": ADMIN},
    "/v1/event-sources/{}": {"GET": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN},
    "/v1/bucket-rules": {"GET": ADMIN, "POST": ADMIN},
    "/v1/bucket-rules/{}": {"GET": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN},
    "/v1/bucket-events": {"GET": ADMIN},
    "/v1/bucket-events/{}": {"POST": OPEN, "GET": ADMIN},  # a sender has its source's own token
    "/v1/api-keys": {"GET": ADMIN, "POST": ADMIN},
    "/v1/api-keys/{}": {"GET": ADMIN, "DELETE": ADMIN},
    "/v1/audit": {"GET": ADMIN},
    "/v1/tenants": {"GET": FLEET, "POST": FLEET},
    "/v1/tenants/{}": {"GET": FLEET, "PATCH": FLEET},
    "/livez": {"GET": OPEN},
    "/readyz": {"GET": OPEN},
}
_ROUTES = [
    (method, re.compile(re.escape(path).replace(r"\{\}", "[^/]+")), scope)
    for path, methods in TABLE.items()
    for method, scope in methods.items()
]


def is_known(method: str, path: str) -> bool:
    """Whether the table has the route of a path, or of a path's template."""
    return any(method == known and pattern.fullmatch(path) for known, pattern, _ in _ROUTES)


def needed(method: str, path: str) -> Scope | None:
    """The scope of the path's route. A route that somebody forgot has none, and is given no caller: it is closed."""
    found = (scope for known, pattern, scope in _ROUTES if method == known and pattern.fullmatch(path))
    return next(found, OPEN)


def check(caller: Caller, scope: Scope) -> None:
    """Raise Forbidden if the caller's key lacks the scope."""
    if scope not in caller.scopes:
        has = ", ".join(caller.scopes) or "none"
        detail = (
            f"This needs a key with the scope `{scope}`; yours has: {has}. `ocrfleet keys create` makes one."
        )
        raise Forbidden(detail, needed=str(scope), scopes=list(caller.scopes))
