"""What errors have in common: a code, a retry class, an HTTP status; the errors themselves are in `ocrfleet.errors`."""

import re
from enum import StrEnum
from typing import Any, ClassVar


class RetryClass(StrEnum):
    """What may be done after a failure."""

    NEVER = "N"  # the input itself is at fault
    CALLER = "C"  # the caller repairs something, then redrives
    SAME = "R"  # the same input again, after a backoff
    ESCALATE = "E"  # again with other parameters


class FleetError(Exception):
    """An error with a code; `detail` is for people and gives the limit and the actual value."""

    code: ClassVar[str] = "internal"
    """The class's name in snake case."""
    retry: ClassVar[RetryClass] = RetryClass.SAME
    status: ClassVar[int] = 500
    free: ClassVar[bool] = False
    """Nothing of the page's failure budget is spent: the fault lies elsewhere."""
    tries: ClassVar[int] = 4
    """Failures of this kind after which a page is dead; all kinds that spend its budget share four."""

    def __init_subclass__(cls) -> None:
        if "code" in vars(cls):
            # A finer kind of an error that is known to people by another name.
            return
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, detail: str = "", **extra: Any) -> None:
        super().__init__(detail or self.code)
        # Postgres takes neither NUL nor lone surrogates, which foreign messages may have.
        detail = detail.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
        self.detail = detail or (self.__doc__ or self.code).strip().splitlines()[0]
        self.extra = extra
        """Further members of the problem document, such as `limit`, `actual`, `line`, `retry_after`."""

    @property
    def retryable(self) -> bool:
        return self.retry in (RetryClass.SAME, RetryClass.ESCALATE)


class NeverError(FleetError):
    """The input can never be read."""

    retry = RetryClass.NEVER
    status = 422


class CallerError(FleetError):
    """The caller has to change something first."""

    retry = RetryClass.CALLER
    status = 422


class TransientError(FleetError):
    """The same request may succeed later."""

    retry = RetryClass.SAME
    status = 503


class EscalateError(FleetError):
    """The page may succeed with other parameters."""

    retry = RetryClass.ESCALATE
    status = 500
