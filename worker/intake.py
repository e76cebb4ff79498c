"""Whether this worker takes messages: its Celery consumer, told from another thread to stop listening or to go on."""

from typing import Any

from ocrfleet.messages import QUEUES


class Intake:
    """Celery is told on its own loop, and over a lost connection too: the next consumer is made from what is selected."""

    def __init__(self, app: Any, worker: Any) -> None:  # noqa: ANN401 (Celery has no types)
        self._app = app
        self._worker = worker

    def __call__(self, *, listen: bool) -> None:
        """Take messages from now on, or none; one that is on its way still comes."""
        queues = self._app.amqp.queues
        for name in QUEUES.values():
            if listen:
                queues.select_add(queues[name])
            else:
                queues.deselect(name)
        consumer = self._worker.consumer
        consumer.call_soon(_apply, consumer, listen=listen)


def _apply(consumer: Any, *, listen: bool) -> None:  # noqa: ANN401
    if consumer.task_consumer is None:
        return  # between two connections
    for name in QUEUES.values():
        if listen:
            consumer.add_task_queue(name)
        else:
            consumer.cancel_task_queue(name)
