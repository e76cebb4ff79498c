"""The app: wiring only."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from redis.asyncio import Redis

from api import control, fleet, health, jobs, letters, ocr, problems, redrives, results, tasks
from api.answers import Problem
from api.caches import Callers, Recent, liveness
from api.deps import Services
from api.edge import Edge
from api.images import body_limit
from api.schemas import OcrRequest
from api.waiting import JobWatch
from ocrfleet import blobs, db
from ocrfleet.settings import Settings

_BROKER_TIMEOUT = 2.0
_LIVENESS_AGE = 0.5


def create_app(settings: Settings) -> FastAPI:
    """The ASGI app; servers are connected to when it starts, and it starts without them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, Any]]:
        database = db.connect(settings, "ocrfleet-api")
        broker = Redis.from_url(
            settings.broker_url, socket_timeout=_BROKER_TIMEOUT, socket_connect_timeout=_BROKER_TIMEOUT
        )
        services = Services(
            settings=settings,
            database=database,
            blobs=blobs.connect(settings),
            broker=broker,
            watch=JobWatch(database),
            liveness=Recent(lambda: liveness(settings, database), _LIVENESS_AGE),
            callers=Callers(database),
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
    for module in (jobs, control, results, letters, redrives, ocr, tasks, fleet, health):
        app.include_router(module.router)
    problems.install(app)
    image_limit = body_limit(settings.sync_max_bytes)
    app.add_middleware(
        Edge, limit=lambda path: image_limit if path == "/v1/ocr" else settings.max_request_bytes
    )
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
        return document

    app.openapi = openapi
