"""The one Celery task: a doorbell that hands a batch to the runner."""

from typing import Any

from ocrfleet.messages import TASK, PageBatch
from worker.runner import Runner


def register(app: Any, runner: Runner) -> None:  # noqa: ANN401 (Celery has no types)
    """Add the task to the application. Its thread waits until the last page of its batch is settled."""

    @app.task(name=TASK, ignore_result=True, acks_late=False)
    def ocr_pages(**message: Any) -> int:  # pyright: ignore[reportUnusedFunction]
        return runner.run(PageBatch.from_message(message))
