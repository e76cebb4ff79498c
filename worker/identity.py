"""Who a worker is: its node name, in Celery and in the record, and its row there."""

import os
import socket
from uuid import UUID

from ocrfleet.settings import Settings
from ocrfleet.states import WorkerState
from ocrfleet.store.workers import Registration
from worker.engines.base import EngineInfo


def node_name(config: Settings) -> str:
    """NAME@HOST, or the setting itself where it has both, as a supervisor gives it: ocr@host-gpu0."""
    name = config.worker_name
    return name if "@" in name else f"{name}@{socket.gethostname()}"


def registration(
    config: Settings,
    incarnation: UUID,
    info: EngineInfo | None,
    state: WorkerState = WorkerState.READY,
    last_error: str | None = None,
) -> Registration:
    """The row of a worker of this process; without `info`, of one whose engine never came up."""
    info = info or EngineInfo(config.engine, config.model, config.model_revision, (), 0)
    return Registration(
        incarnation=incarnation,
        name=node_name(config),
        host=socket.gethostname(),
        pid=os.getpid(),
        device=config.device,
        engine=info.name,
        model=info.model,
        revision=info.revision,
        tasks=list(info.tasks),
        slots=config.slots,
        in_flight_target=info.in_flight,
        state=state,
        last_error=last_error,
    )
