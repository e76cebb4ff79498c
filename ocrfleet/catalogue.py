"""The OCR tasks: id, version, prompts, kind of output, parameters. Prompts are the model authors' own, to the letter."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any


class OutputKind(StrEnum):
    """Which member of a result carries the answer."""

    TEXT = "text"
    MARKDOWN = "markdown"
    REGIONS = "regions"
    FIELDS = "fields"


@dataclass(frozen=True, slots=True)
class Parameters:
    """How a generative engine samples, and from how many pixels; a job may override each by its name."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = -1
    repetition_penalty: float = 1.08
    max_tokens: int = 8192
    max_pixels: int | None = None
    """The page is scaled down to this; None leaves the engine's own cap."""


@dataclass(frozen=True, slots=True)
class Task:
    """One entry of the catalogue; a change of prompt or parser raises `version`."""

    name: str
    version: int
    output: OutputKind
    description: str
    prompt_zh: str = ""
    """With the placeholders of `build_prompt`; empty where the request has to bring the prompt."""
    prompt_en: str = ""
    parameters: Parameters = field(default_factory=Parameters)
    needs: tuple[str, ...] = ()
    """Members of a request of which one has to be given."""
    takes: tuple[str, ...] = ()
    """Those of `MEMBERS` that may be given, `prompt` aside."""
    example: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What a request needs beside its input and the task's name."""

    def described(self) -> dict[str, Any]:
        """As GET /v1/tasks tells it; `available` is the fleet's to add."""
        job = {"input": {"type": "prefix", "bucket": "scans", "prefix": "2026/"}, "task": self.name}
        return {
            "name": self.name,
            "version": self.version,
            "output": self.output,
            "description": self.description,
            "prompts": {"zh": self.prompt_zh, "en": self.prompt_en} if self.prompt_zh else {},
            "parameters": asdict(self.parameters),
            "needs": list(self.needs),
            "takes": list(self.takes),
            "example": {**job, **self.example},
        }


MEMBERS = {
    "fields": "/fields",
    "output_schema": "/output_schema",
    "target_language": "/options/target_language",
}
"""Members of a request that only some tasks use, and where they stand in it."""
LANGUAGES = {"en": {"zh": "英文", "en": "English"}, "zh": {"zh": "中文", "en": "Chinese"}}
"""What can be translated to, in the words of each prompt's language."""

# Where an English prompt says "ours", the authors have published none: it is a translation of their Chinese one.
_PARSE_ZH = (
    "提取文档图片中正文的所有信息用markdown格式表示，其中页眉、页脚部分忽略，表格用html格式表达，"
    "文档中公式用latex格式表示，按照阅读顺序组织进行解析。"
)
_PARSE_EN = (
    "Extract all information from the main body of the document image and represent it in markdown format, "
    "ignoring headers and footers. Tables should be expressed in HTML format, formulas in the document should "
    "be represented using LaTeX format, and the parsing should be organized according to the reading order."
)
_SPOTTING_ZH = "检测并识别图片中的文字，将文本坐标格式化输出。"
_SPOTTING_EN = (
    "Detect and recognize text in the image, and output the text coordinates in a formatted manner."
)
_SPOTTING_JSON_ZH = (
    "检测并识别图中所有的文字行，请按从上到下、从左到右的阅读顺序进行识别。 "
    '输出格式为 JSON 数组，每个元素必须包含："box": [xmin, ymin, xmax, ymax]（坐标需归一化到 [0, 1000] 范围内）；'
    '"text": "识别出的文字内容"。 注意：请直接输出 JSON 数组，不要包含任何多余的描述性文字。'
)
_SPOTTING_JSON_EN = (  # ours
    "Detect and recognize all text lines in the image, in reading order from top to bottom and from left to right. "
    'The output format is a JSON array, in which each element must contain: "box": [xmin, ymin, xmax, ymax] '
    '(coordinates normalized to the range [0, 1000]); "text": "the recognized text". '
    "Note: output the JSON array directly, without any additional descriptive text."
)
_LAYOUT_ZH = "按照阅读顺序解析图中的版式信息。"
_LAYOUT_EN = "Parse the layout information in the image according to the reading order."  # ours
_LAYOUT_PARSE_ZH = (
    "提取文档图片中所有内容用markdown格式表示，表格用html格式表达，文档中公式用latex格式表示，"
    "请按照阅读顺序组织进行全文解析，并输出版式分析信息。"
)
_LAYOUT_PARSE_EN = (  # ours
    "Extract all content from the document image and represent it in markdown format. Tables should be expressed "
    "in HTML format, formulas in the document should be represented using LaTeX format. Parse the full text "
    "organized according to the reading order, and output the layout analysis information."
)
_CHART_ZH = "解析图中的图表，对于流程图使用Mermaid格式表示，其他图表使用Markdown格式表示。"
_CHART_EN = "Parse the chart in the image; use Mermaid format for flowcharts and Markdown for other charts."
_EXTRACT_ZH = "提取图片中的: {fields} 的字段内容，并按照 JSON 格式返回。"
_EXTRACT_EN = "Extract the content of the fields: {fields} from the image and return it in JSON format."
_TRANSLATE_ZH = "按照阅读顺序，提取图中文字，公式用latex格式表示，表格用markdown格式表示，再将文字内容翻译为{target_language}。"
_TRANSLATE_EN = (  # ours
    "Extract the text in the image according to the reading order, represent formulas using LaTeX format and tables "
    "in markdown format, then translate the text content into {target_language}."
)
_TRANSLATE_DOCUMENT_ZH = (
    "先解析文档，再将文档内容翻译为中文，其中页眉、页脚忽略，公式用latex格式表示，表格用html格式表示。"
)
_TRANSLATE_DOCUMENT_EN = (  # of the technical report of 1.0
    "First parse the document, then translate its content into Chinese. Ignore headers and footers; represent "
    "equations in LaTeX; and render tables in HTML format."
)


def _catalogue(*tasks: Task) -> dict[str, Task]:
    return {task.name: task for task in tasks}


TASKS = _catalogue(
    Task(
        "text", 1, OutputKind.TEXT, "Plain text in reading order.",
        "提取图中的文字。", "Extract the text in the image.",
    ),
    Task(
        "spotting", 1, OutputKind.REGIONS, "Text lines with their boxes in pixels of the page.",
        _SPOTTING_ZH, _SPOTTING_EN,
    ),
    Task(
        "spotting_json", 1, OutputKind.REGIONS, "The same as `spotting`, asked of the model as JSON.",
        _SPOTTING_JSON_ZH, _SPOTTING_JSON_EN,
    ),
    Task("parse", 1, OutputKind.MARKDOWN, "The document as Markdown.", _PARSE_ZH, _PARSE_EN),
    Task("layout", 1, OutputKind.TEXT, "The page's parts in reading order, as the model writes them.", _LAYOUT_ZH, _LAYOUT_EN),
    Task(
        "layout_parse", 1, OutputKind.MARKDOWN,
        "The whole page as Markdown, headers and footers included, with the layout as the model writes it.",
        _LAYOUT_PARSE_ZH, _LAYOUT_PARSE_EN,
    ),
    Task(
        "table", 1, OutputKind.MARKDOWN, "A table as HTML.",
        "把图中的表格解析为HTML。", "Parse the table in the image into HTML.",
        # Cells repeat by nature; a penalty would change them.
        Parameters(repetition_penalty=1.0),
    ),
    Task(
        "formula", 1, OutputKind.MARKDOWN, "A formula as LaTeX.",
        "识别图片中的公式，用LaTeX格式表示。",
        "Identify the formula in the image and represent it using LaTeX format.",
    ),
    Task("chart", 1, OutputKind.MARKDOWN, "A flowchart as Mermaid, another chart as Markdown.", _CHART_ZH, _CHART_EN),
    Task(
        "extract", 1, OutputKind.FIELDS, "Named fields, or what a JSON Schema asks for, as JSON.",
        _EXTRACT_ZH, _EXTRACT_EN,
        needs=("fields", "output_schema"), takes=("fields", "output_schema"),
        example={"fields": ["invoice number", "date", "total"]},
    ),
    Task(
        "value", 1, OutputKind.TEXT, "The value of one field, as text.",
        "输出 {field} 的值。", "Output the value of {field}.",
        needs=("fields",), takes=("fields",), example={"fields": ["total"]},
    ),
    Task(
        "translate", 1, OutputKind.MARKDOWN, "The text of the image in English or Chinese.",
        _TRANSLATE_ZH, _TRANSLATE_EN,
        takes=("target_language",), example={"options": {"target_language": "en"}},
    ),
    Task(
        "translate_document", 1, OutputKind.MARKDOWN, "The document as Markdown, in Chinese.",
        _TRANSLATE_DOCUMENT_ZH, _TRANSLATE_DOCUMENT_EN,
    ),
    Task(
        "subtitles", 1, OutputKind.TEXT, "The subtitles of a video frame.",
        "提取图片中的字幕。", "Extract the subtitles from the image.",
    ),
    Task(
        "question", 1, OutputKind.TEXT, "The answer to a question about the page.",
        needs=("prompt",), example={"prompt": "Who signed this letter?"},
    ),
    Task(
        "prompt", 1, OutputKind.TEXT, "Whatever the prompt asks for, as plain text.",
        needs=("prompt",), example={"prompt": "List the headings, one a line."},
    ),
)  # fmt: skip

ENGINE_TASKS: dict[str, tuple[str, ...]] = {
    "null": ("text", "spotting", "parse"),
    "rapidocr": ("text", "spotting", "parse"),
}
"""What the engines that generate nothing can do."""


def generates(engine: str) -> bool:
    """Whether the engine of this name follows a prompt, and so can do every task, on a page scaled down for it."""
    return engine not in ENGINE_TASKS


def tasks_of(engine: str) -> tuple[str, ...]:
    """What the engine of this name can do, for when none is alive to tell."""
    return ENGINE_TASKS.get(engine, tuple(TASKS))


def build_prompt(task: str, prompt: str | None, options: Mapping[str, Any]) -> str:
    """The prompt for a generative engine; `options` may have `prompt_language` (`zh`, the better, or `en`)."""
    if prompt is not None:
        return prompt
    language = "en" if options.get("prompt_language") == "en" else "zh"
    words = TASKS[task].prompt_en if language == "en" else TASKS[task].prompt_zh
    # One placeholder a prompt: what is put in is never searched for another.
    if "{fields}" in words:
        return words.replace("{fields}", _listed(names_of(options)))
    if "{field}" in words:
        return words.replace("{field}", names_of(options)[0])
    return words.replace("{target_language}", LANGUAGES[options.get("target_language") or "en"][language])


def names_of(options: Mapping[str, Any]) -> list[str]:
    """The fields asked for: those named, else the properties of the schema."""
    return options.get("fields") or list(options["output_schema"]["properties"])


def _listed(names: Iterable[str]) -> str:
    r"""As the authors write it, `['key1','key2']`; quotes and backslashes in names get a backslash."""
    escaped = (name.replace("\\", "\\\\").replace("'", "\\'") for name in names)
    return "[" + ",".join(f"'{name}'" for name in escaped) + "]"


def parameters_of(task: str, options: Mapping[str, Any]) -> Parameters:
    """The task's own, and over them what the job's `options["parameters"]` names."""
    return replace(TASKS[task].parameters, **options.get("parameters") or {})


def schema_of(task: str, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON Schema that the output is bound to: the one given, else named fields of text or null; or None."""
    if TASKS[task].output is not OutputKind.FIELDS:
        return None
    if schema := options.get("output_schema"):
        return schema
    names = names_of(options)
    return {
        "type": "object",
        "properties": {name: {"type": ["string", "null"]} for name in names},
        "required": names,
        "additionalProperties": False,
    }
