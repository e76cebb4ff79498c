"""The intake: Celery's consumer is told to stop and to go on, and nothing it is told is lost with a connection."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ocrfleet.messages import QUEUES
from ocrfleet.settings import Settings
from worker.app import create_app
from worker.intake import Intake

NAMES = set(QUEUES.values())


class Consumer:
    """Celery's own, as far as it is told: what runs on its loop runs when the test says so."""

    def __init__(self) -> None:
        self.task_consumer: object | None = object()
        self.listening = set(NAMES)
        self._soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[..., None], *given: object, **named: object) -> None:
        self._soon.append(lambda: callback(*given, **named))

    def turn(self) -> None:
        while self._soon:
            self._soon.pop(0)()

    def lose_connection(self) -> None:
        """What was to be done soon is forgotten; there is no task consumer until the next connection."""
        self._soon.clear()
        self.task_consumer = None

    def add_task_queue(self, name: str) -> None:
        assert self.task_consumer is not None
        self.listening.add(name)

    def cancel_task_queue(self, name: str) -> None:
        assert self.task_consumer is not None
        self.listening.discard(name)


@pytest.fixture
def app() -> Any:  # noqa: ANN401 (Celery has no types)
    app = create_app(Settings())
    app.amqp.queues.select(list(NAMES))
    return app


def test_it_stops_and_goes_on_on_celerys_own_loop(app: Any) -> None:  # noqa: ANN401
    consumer = Consumer()
    intake = Intake(app, SimpleNamespace(consumer=consumer))
    intake(listen=False)
    assert consumer.listening == NAMES
    consumer.turn()
    assert consumer.listening == set()
    intake(listen=True)
    consumer.turn()
    assert consumer.listening == NAMES


def test_a_connection_that_is_lost_meanwhile_changes_nothing(app: Any) -> None:  # noqa: ANN401
    """The next one listens to what is selected."""
    consumer = Consumer()
    intake = Intake(app, SimpleNamespace(consumer=consumer))
    intake(listen=False)
    consumer.lose_connection()
    assert app.amqp.queues.consume_from == {}
    intake(listen=True)
    consumer.turn()
    assert set(app.amqp.queues.consume_from) == NAMES
    intake(listen=False)
    consumer.turn()
    assert app.amqp.queues.consume_from == {}
