"""Regions that a job asks for although its task gives none: a second pass over the page."""

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from fleet_builders import claimed_page

from ocrfleet.catalogue import Parameters
from ocrfleet.errors import BY_CODE
from ocrfleet.states import Lane
from worker.decode import Loaded
from worker.engines.base import Engine, EngineInfo, PageRequest, PageResult, Region
from worker.engines.null import NullEngine
from worker.escalation import Plan
from worker.infer import read

PIXELS = np.zeros((40, 30, 3), np.uint8)
WHERE = [Region("Total 12", (1, 2, 20, 9))]


class TwoPasses:
    """Answers each task as it is told; an error in the place of an answer is raised."""

    reads_pixels = True

    def __init__(self, answers: Mapping[str, PageResult | Exception]) -> None:
        self.answers = answers
        self.asked: list[PageRequest] = []

    async def start(self) -> EngineInfo:
        return EngineInfo("two", "two", "1", ("text", "spotting"), 1)

    def wanted(self) -> int:
        return 1

    async def recognize(self, request: PageRequest) -> PageResult:
        self.asked.append(request)
        answer = self.answers[request.task]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def abort(self, request_id: str) -> None: ...

    async def healthy(self) -> bool:
        return True

    async def stop(self) -> None: ...


def go(engine: Engine, task: str = "text", **options: Any) -> PageResult:
    page = claimed_page(task=task, options=options, prompt="Read it")
    loaded = Loaded(PIXELS, (), "sha")
    plan = Plan(task, Parameters(temperature=0.3, max_pixels=1_000_000))
    return asyncio.run(read(engine, page, plan, Lane.BULK, loaded, 10.0))


def text(**members: Any) -> PageResult:
    return PageResult("Total 12", **{"usage": {"prompt_tokens": 10, "output_tokens": 5}} | members)


def test_the_second_pass_adds_its_regions_and_its_usage() -> None:
    spotted = PageResult("T 12", regions=WHERE, usage={"output_tokens": 7, "image_tokens": 3}, language="de")
    engine = TwoPasses({"text": text(language="en"), "spotting": spotted})
    result = go(engine, regions=True)
    assert (result.text, result.language, result.regions) == ("Total 12", "en", WHERE)
    assert result.usage == {"prompt_tokens": 10, "output_tokens": 12, "image_tokens": 3}
    second = engine.asked[1]
    assert (second.task, second.prompt) == ("spotting", None), "the caller's prompt is not for it"
    assert (second.parameters.temperature, second.parameters.max_pixels) == (0.0, 1_000_000)


def test_who_does_not_ask_pays_for_one_pass() -> None:
    engine = TwoPasses({"text": text()})
    assert go(engine).regions is None
    assert go(engine, regions=False).regions is None
    assert len(engine.asked) == 2


def test_a_task_that_gives_regions_needs_no_second_pass() -> None:
    engine = TwoPasses({"text": text(regions=WHERE), "spotting": RuntimeError("not to be asked")})
    assert go(engine, regions=True).regions == WHERE


def test_a_blank_page_has_none_and_is_not_asked_about_twice() -> None:
    engine = TwoPasses({"text": PageResult("", warnings=("blank_page",))})
    assert go(engine, regions=True).regions == []


@pytest.mark.parametrize("code", ["output_invalid", "repetition_loop", "inference_timeout", "engine_oom"])
def test_a_second_pass_that_fails_costs_the_regions_not_the_text(code: str) -> None:
    engine = TwoPasses({"text": text(), "spotting": BY_CODE[code]("it did not work")})
    result = go(engine, regions=True)
    assert (result.text, result.regions, result.warnings) == ("Total 12", None, ("regions_missing",))


@pytest.mark.parametrize("code", ["engine_crashed", "internal", "canceled"])
def test_what_is_no_fault_of_the_page_is_no_reason_to_do_without(code: str) -> None:
    engine = TwoPasses({"text": text(), "spotting": BY_CODE[code]("it did not work")})
    with pytest.raises(BY_CODE[code]):
        go(engine, regions=True)


def test_the_null_engine_gives_them_so() -> None:
    from ocrfleet.settings import Settings

    assert [region.box for region in go(NullEngine(Settings()), regions=True).regions or ()] == [
        (0, 0, 30, 40)
    ]
