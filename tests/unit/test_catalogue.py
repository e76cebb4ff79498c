"""The catalogue: what a generative engine is asked, within which parameters, bound to which schema."""

import ast
import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ocrfleet.catalogue import (
    ENGINE_TASKS,
    MEMBERS,
    TASKS,
    OutputKind,
    Parameters,
    build_prompt,
    parameters_of,
    schema_of,
)

SCHEMA = {"type": "object", "properties": {"no": {"type": "string"}, "total": {"type": "number"}}}
PINNED: dict[str, tuple[int, str]] = {
    "text": (1, "4671d1359682"),
    "spotting": (1, "f283623de489"),
    "spotting_json": (1, "14d9fb08b0f4"),
    "parse": (1, "698944f1aec6"),
    "layout": (1, "714c3a9c400d"),
    "layout_parse": (1, "a3d4303fcf7e"),
    "table": (1, "6b7c2f31df6d"),
    "formula": (1, "d71da624447c"),
    "chart": (1, "138fa80dff1c"),
    "extract": (1, "edc5199aa10f"),
    "value": (1, "be2613aadbed"),
    "translate": (1, "98c3c84bb273"),
    "translate_document": (1, "f0a717b38ba3"),
    "subtitles": (1, "b0feed0b1bac"),
    "question": (1, "01ba4719c80b"),
    "prompt": (1, "01ba4719c80b"),
}


def digest(name: str) -> str:
    task = TASKS[name]
    return hashlib.sha256(f"{task.prompt_zh}\n{task.prompt_en}".encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", TASKS)
def test_a_prompt_does_not_change_without_its_version(name: str) -> None:
    """The prompts are the model authors' own; whoever changes one pins it here anew, with a new version."""
    assert (TASKS[name].version, digest(name)) == PINNED[name]


@pytest.mark.parametrize(
    ("task", "options", "prompt"),
    [
        ("text", {}, "提取图中的文字。"),
        ("text", {"prompt_language": "zh"}, "提取图中的文字。"),
        ("text", {"prompt_language": "en"}, "Extract the text in the image."),
        ("value", {"fields": ["总 额"]}, "输出 总 额 的值。"),
        ("value", {"fields": ["Total"], "prompt_language": "en"}, "Output the value of Total."),
        ("value", {"fields": ["{fields}"]}, "输出 {fields} 的值。"),
        ("extract", {"fields": ["a", "b c"]}, "提取图片中的: ['a','b c'] 的字段内容，并按照 JSON 格式返回。"),
        (
            "extract",
            {"output_schema": SCHEMA, "prompt_language": "en"},
            "Extract the content of the fields: ['no','total'] from the image and return it in JSON format.",
        ),
        (
            "extract",
            {"output_schema": SCHEMA, "fields": ["编号"]},
            "提取图片中的: ['编号'] 的字段内容，并按照 JSON 格式返回。",
        ),
        (
            "translate",
            {},
            "按照阅读顺序，提取图中文字，公式用latex格式表示，表格用markdown格式表示，再将文字内容翻译为英文。",
        ),
        (
            "translate",
            {"target_language": "zh"},
            "按照阅读顺序，提取图中文字，公式用latex格式表示，表格用markdown格式表示，再将文字内容翻译为中文。",
        ),
    ],
)
def test_a_prompt_is_in_the_authors_form(task: str, options: dict[str, Any], prompt: str) -> None:
    assert build_prompt(task, None, options) == prompt


@pytest.mark.parametrize(("target", "word"), [(None, "English"), ("en", "English"), ("zh", "Chinese")])
def test_a_translation_names_its_target(target: str | None, word: str) -> None:
    prompt = build_prompt("translate", None, {"target_language": target, "prompt_language": "en"})
    assert prompt.endswith(f"then translate the text content into {word}.")


@pytest.mark.parametrize("task", TASKS)
def test_a_free_prompt_replaces_the_words_of_any_task(task: str) -> None:
    options = {"fields": ["a"], "prompt_language": "en"}
    assert build_prompt(task, "what {fields}?", options) == "what {fields}?"


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1))
def test_names_can_be_told_apart_whatever_is_in_them(names: list[str]) -> None:
    prompt = build_prompt("extract", None, {"fields": names})
    listed = prompt.removeprefix("提取图片中的: ").removesuffix(" 的字段内容，并按照 JSON 格式返回。")
    assert ast.literal_eval(listed) == names


def test_fields_are_bound_to_text_or_null_all_of_them_and_no_other() -> None:
    schema = schema_of("extract", {"fields": ["a", "b"]})
    assert schema
    Draft202012Validator.check_schema(schema)
    fits = Draft202012Validator(schema).is_valid
    assert fits({"a": "1", "b": None})
    assert not any(map(fits, [{"a": "1"}, {"a": "1", "b": 2}, {"a": "1", "b": "", "c": ""}, [], None]))


def test_a_schema_given_is_the_one_bound_to_even_beside_names() -> None:
    assert schema_of("extract", {"fields": ["a"], "output_schema": SCHEMA}) == SCHEMA


@pytest.mark.parametrize("task", [name for name in TASKS if TASKS[name].output is not OutputKind.FIELDS])
def test_other_tasks_are_bound_to_no_schema(task: str) -> None:
    assert schema_of(task, {"fields": ["a"], "output_schema": SCHEMA}) is None


def test_a_job_overrides_the_tasks_parameters_by_name() -> None:
    assert parameters_of("table", {}) == Parameters(repetition_penalty=1.0)
    given = {"parameters": {"temperature": 0.3, "max_pixels": 1_000_000}}
    expected = Parameters(temperature=0.3, repetition_penalty=1.0, max_pixels=1_000_000)
    assert parameters_of("table", given) == expected
    assert parameters_of("text", {"parameters": None}) == Parameters()


def test_what_needs_and_engines_name_is_there() -> None:
    for task in TASKS.values():
        assert set(task.needs) <= {"prompt", *task.takes}
        assert set(task.takes) <= MEMBERS.keys()
        assert bool(task.prompt_zh) == bool(task.prompt_en) == ("prompt" not in task.needs)
    assert all(set(tasks) <= TASKS.keys() for tasks in ENGINE_TASKS.values())


def test_the_documentation_has_a_row_for_every_task() -> None:
    page = (Path(__file__).parents[2] / "docs/tasks.md").read_text()
    table = page.partition("| task |")[2].partition("\n\n")[0]
    rows = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    assert list(rows) == list(TASKS)
    for name, row in rows.items():
        assert f" {TASKS[name].output} " in row
        assert all(f"`{need}`" in row for need in TASKS[name].needs)
