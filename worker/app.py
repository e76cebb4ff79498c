"""The Celery application of a worker: early acknowledgement, no prefetch, no results, no priorities, no ETA."""

from typing import Any

from celery import Celery

from ocrfleet.messages import QUEUES, transport_options
from ocrfleet.settings import Settings

SOCKET_TIMEOUT = 5.0


def create_app(settings: Settings) -> Any:  # noqa: ANN401 (Celery has no types)
    """Nothing is connected yet."""
    app: Any = Celery("ocrfleet", broker=settings.broker_url)
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options=transport_options(SOCKET_TIMEOUT),
        task_acks_late=False,
        task_default_queue=next(iter(QUEUES.values())),
        task_ignore_result=True,
        task_serializer="json",
        task_track_started=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_disable_prefetch=True,
        worker_enable_remote_control=True,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_send_task_events=True,
    )
    return app
