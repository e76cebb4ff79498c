"""What tenants with a daily quota may still send off, as the dispatcher knows it between two looks at the record."""

import sys
import time
from uuid import UUID

from sqlalchemy.orm import Session

from ocrfleet.store import quotas

_AGE = 1.0
_SHARE = 20.0
"""What was looked up in a second holds for so many, however much usage there is to sum."""
UNLIMITED = sys.maxsize


class Allowances:
    """Strict however old it is: what has been sent off since is taken from it, and what came back is not added."""

    def __init__(self, age: float = _AGE) -> None:
        self._age = age
        self._left: dict[UUID, int] = {}
        self._due = 0.0

    def renew(self, session: Session) -> None:
        """Look at the record again, if the last look is too old."""
        began = time.monotonic()
        if began >= self._due:
            self._left = quotas.allowances(session)
            now = time.monotonic()
            self._due = now + max(self._age, _SHARE * (now - began))

    def left(self, tenant_id: UUID) -> int:
        """Pages that the tenant may still send off."""
        return self._left.get(tenant_id, UNLIMITED)

    def spend(self, tenant_id: UUID, pages: int) -> None:
        """They are sent off."""
        if tenant_id in self._left:
            self._left[tenant_id] -= pages
