"""Whether the process lives, and whether what it stands on answers."""

import asyncio
from collections.abc import Awaitable

import structlog
from anyio import to_thread
from fastapi import APIRouter, Response

from api import answers
from api.deps import GivenServices
from ocrfleet import db

log = structlog.get_logger()

router = APIRouter(tags=["health"])
_TIMEOUT = 3.0


@router.get(
    "/livez",
    summary="Does the process live?",
    response_model=dict[str, str],
    responses={200: {"content": {"application/json": {"example": {"status": "live"}}}}},
)
async def livez() -> dict[str, str]:
    """Always 200; it looks at nothing else."""
    return {"status": "live"}


@router.get(
    "/readyz",
    summary="Do Postgres, the broker and the store answer?",
    responses={503: {"model": answers.Health, "description": "One of them does not answer."}},
)
async def readyz(services: GivenServices, response: Response) -> answers.Health:
    """Workers and GPUs are not looked at: jobs can be submitted without them."""

    def postgres() -> None:
        if db.revision(services.database) is None:
            raise LookupError("the schema is not there; run `ocrfleet migrate`")

    names = ("postgres", "broker", "store")
    found = await asyncio.gather(
        # A thread that hangs is left behind.
        _fault("postgres", to_thread.run_sync(postgres, abandon_on_cancel=True)),
        _fault("broker", services.broker.ping()),
        _fault("store", to_thread.run_sync(services.blobs.ping, abandon_on_cancel=True)),
    )
    checks = {name: fault or "ok" for name, fault in zip(names, found, strict=True)}
    ready = not any(found)
    response.status_code = 200 if ready else 503
    return answers.Health(status="ready" if ready else "unavailable", checks=checks)


async def _fault(name: str, check: Awaitable[object]) -> str | None:
    """What is wrong, for anyone to read: no address and no credentials; those are in the log."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            await check
    except TimeoutError:
        return f"no answer within {_TIMEOUT:g} s"
    except Exception as exc:  # noqa: BLE001  whatever a client library raises, the server is not ready
        log.warning("not_ready", server=name, error=repr(exc))
        return str(exc) if isinstance(exc, LookupError) else type(exc).__name__
    return None
