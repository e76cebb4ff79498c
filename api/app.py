"""The app: wiring only."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from redis.asyncio import Redis

from api import (
    audit,
    batches,
    bucket_events,
    bucket_rules,
    control,
    conventions,
    event_sources,
    explain,
    exports,
    files,
    fleet,
    health,
    items,
    jobs,
    keys,
    letters,
    ocr,
    problems,
    quota,
    redrives,
    results,
    tasks,
    tenants,
    uploads,
    usage,
    webhooks,
)
from api.access import Access
from api.answers import Problem
from api.caches import Callers, Recent, liveness, over_quota
from api.deps import Services
from api.edge import Edge
from api.etags import ETags
from api.idempotency import Idempotency
from api.images import body_limits
from api.rates import Rates
from api.schemas import OcrRequest
from api.waiting import Followers, JobWatch
from ocrfleet import blobs, db, presign
from ocrfleet.outbound import Outbound
from ocrfleet.settings import Settings

_BROKER_TIMEOUT = 2.0
_LIVENESS_AGE, _QUOTA_AGE = 0.5, 2.0


def create_app(settings: Settings) -> FastAPI:
    """The ASGI app; servers are connected to when it starts, and it starts without them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, Any]]:
        database = db.connect(settings, "ocrfleet-api")
        broker = Redis.from_url(
            settings.broker_url, socket_timeout=_BROKER_TIMEOUT, socket_connect_timeout=_BROKER_TIMEOUT
        )
        blocked = Recent(lambda: over_quota(database), _QUOTA_AGE)
        services = Services(
            settings=settings,
            database=database,
            blobs=blobs.connect(settings),
            broker=broker,
            watch=JobWatch(database),
            followers=Followers(settings.followers, settings.followers_of_tenant),
            liveness=Recent(lambda: liveness(settings, database, blocked), _LIVENESS_AGE),
            callers=Callers(database),
            rates=Rates(broker),
            outbound=Outbound(settings),
            presigner=presign.connect(settings),
        )
        watching = asyncio.create_task(services.watch.run())
        try:
            yield {"services": services}
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await broker.aclose()
            database.close()

    app = FastAPI(
        title="OCR Fleet",
        version=version("ocrfleet"),
        summary="Bulk OCR on a fleet of GPUs: every page ends with a result, or a dead letter that says why.",
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
    )
    for module in (
        jobs,
        uploads,
        control,
        explain,
        results,
        items,
        exports,
        letters,
        redrives,
        ocr,
        files,
        batches,
        event_sources,
        bucket_events,
        bucket_rules,
        webhooks,
        tasks,
        fleet,
        health,
        keys,
        tenants,
        quota,
        usage,
        audit,
    ):
        app.include_router(module.router)
    problems.install(app)
    # The last one added is the outermost.
    app.add_middleware(Idempotency)
    app.add_middleware(ETags)
    app.add_middleware(Access)
    app.add_middleware(Edge, limit=body_limits(settings))
    _complete_schema(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _complete_schema(app: FastAPI) -> None:
    """Add to the OpenAPI document the models that are only referred to by hand."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        document = build()
        _, added = models_json_schema(
            [(Problem, "validation"), (OcrRequest, "validation")], ref_template="#/components/schemas/{model}"
        )
        document["components"]["schemas"] |= added["$defs"]
        conventions.complete(document)
        return document

    app.openapi = cache(openapi)
