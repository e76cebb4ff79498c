"""The ladder: what the next attempt does otherwise, by what the earlier ones failed with."""

from typing import Any
from uuid import UUID

import pytest

from ocrfleet.catalogue import TASKS, Parameters
from ocrfleet.store.pages import ClaimedPage
from worker.escalation import PENALTY_STEP, Plan, plan

CAP = 4_000_000


def page(*codes: str, failures: int | None = None, **members: Any) -> ClaimedPage:
    known: dict[str, Any] = {
        "id": 1, "fence": 1, "number": 1, "item_id": 1, "job_id": UUID(int=1), "tenant_id": UUID(int=2), "attempt": 1 + len(codes), "losses": 0,
        "queued_ms": 0, "bucket": "ocr", "key": "a.png", "etag": None, "version_id": None, "page_count": 1,
        "item_options": None, "task": "parse", "prompt": None, "options": {},
    }  # fmt: skip
    known |= {"codes": codes, "failures": len(codes) if failures is None else failures}
    return ClaimedPage(**known | members)


def test_the_first_attempt_is_the_tasks_own() -> None:
    assert plan(page(), CAP) == Plan("parse", TASKS["parse"].parameters)


def test_failures_of_the_text_climb_to_the_plain_text() -> None:
    own = TASKS["parse"].parameters.repetition_penalty
    loop = "repetition_loop"
    first, second, third = (plan(page(*[loop] * n), CAP) for n in (1, 2, 3))
    assert first.parameters.repetition_penalty == pytest.approx(own + PENALTY_STEP)
    assert (first.parameters.temperature, first.parameters.max_pixels, first.task) == (0.0, None, "parse")
    assert (second.parameters.temperature, second.parameters.top_p, second.task) == (0.3, 0.95, "parse")
    assert (third.parameters.max_pixels, third.task) == (CAP // 2, "text")


@pytest.mark.parametrize("task", ["text", "spotting"])
def test_only_whole_pages_end_as_plain_text(task: str) -> None:
    assert plan(page(*["output_truncated"] * 3, task=task), CAP).task == task


def test_nothing_but_coordinates_is_asked_for_as_text_at_once() -> None:
    assert plan(page("output_invalid"), CAP).task == "text"


@pytest.mark.parametrize("code", ["engine_oom", "inference_timeout"])
def test_failures_of_the_size_take_pixels_and_nothing_else(code: str) -> None:
    assert plan(page(code), CAP) == Plan("parse", Parameters(max_pixels=CAP // 2))
    assert plan(page(code, code), CAP).parameters.max_pixels == CAP // 4


def test_what_cost_the_page_nothing_changes_nothing() -> None:
    assert plan(page("worker_lost", "storage_unavailable", failures=0), CAP) == plan(page(), CAP)


def test_failures_from_before_a_redrive_count_no_more() -> None:
    codes = ["repetition_loop"] * 4 + ["engine_crashed", "engine_oom"]
    assert plan(page(*codes, failures=1), CAP) == plan(page("engine_oom"), CAP)


def test_the_jobs_own_parameters_are_where_the_ladder_begins() -> None:
    options = {"parameters": {"repetition_penalty": 1.2, "max_pixels": 1_000_000}}
    found = plan(page("engine_oom", "repetition_loop", options=options), CAP).parameters
    assert found.repetition_penalty == pytest.approx(1.2 + PENALTY_STEP)
    assert found.max_pixels == 500_000


def test_a_task_that_nobody_knows_is_left_to_the_runner() -> None:
    assert plan(page(task="sculpture"), CAP).task == "sculpture"
