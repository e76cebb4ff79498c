"""The broker as the producer sees it: it publishes batches, and asks whether messages can have been lost."""

from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from ocrfleet.messages import QUEUES, TASK, PageBatch, transport_options
from ocrfleet.settings import Settings

SOCKET_TIMEOUT = 2.0
"""Seconds; short, since the leader publishes between two polls."""


class BrokerUnavailable(Exception):  # noqa: N818 (it never leaves the producer)
    """The broker did not take the message, or may not have."""


class Broker:
    """A Celery publisher, and a plain connection for questions."""

    def __init__(self, settings: Settings) -> None:
        self._app: Any = Celery("ocrfleet", broker=settings.broker_url)
        self._app.conf.update(
            broker_transport_options=transport_options(SOCKET_TIMEOUT),
            broker_connection_timeout=SOCKET_TIMEOUT,
            task_ignore_result=True,
            task_serializer="json",
            accept_content=["json"],
        )
        self._redis = redis.Redis.from_url(
            settings.broker_url, socket_timeout=SOCKET_TIMEOUT, socket_connect_timeout=SOCKET_TIMEOUT
        )

    def publish(self, batch: PageBatch) -> None:
        """Send one batch; BrokerUnavailable when it may not have arrived."""
        try:
            self._app.send_task(TASK, kwargs=batch.to_message(), queue=QUEUES[batch.lane], retry=False)
        except (OperationalError, redis.RedisError, OSError) as exc:
            raise BrokerUnavailable(str(exc)) from exc

    def status(self) -> tuple[str, bool]:
        """The broker's run id (new with each of its starts), and whether no message waits in it."""
        try:
            info: Any = self._redis.info("server")
            waiting = sum(int(self._redis.llen(queue)) for queue in QUEUES.values())  # type: ignore[arg-type]
        except redis.RedisError as exc:
            raise BrokerUnavailable(str(exc)) from exc
        return str(info["run_id"]), waiting == 0

    def close(self) -> None:
        self._app.close()
        self._redis.close()
