"""The OCR tasks: id, version, prompts, kind of output. Prompts are the model authors' own, to the letter."""

from dataclasses import dataclass
from enum import StrEnum


class OutputKind(StrEnum):
    """Which member of a result carries the answer."""

    TEXT = "text"
    MARKDOWN = "markdown"
    REGIONS = "regions"
    FIELDS = "fields"


@dataclass(frozen=True, slots=True)
class Task:
    """One entry of the catalogue; a change of prompt or parser raises `version`."""

    name: str
    version: int
    output: OutputKind
    description: str
    prompt_zh: str
    prompt_en: str


_PARSE_ZH = (
    "提取文档图片中正文的所有信息用markdown格式表示，其中页眉、页脚部分忽略，表格用html格式表达，"
    "文档中公式用latex格式表示，按照阅读顺序组织进行解析。"
)
_PARSE_EN = (
    "Extract all information from the main body of the document image and represent it in markdown format, "
    "ignoring headers and footers. Tables should be expressed in HTML format, formulas in the document should "
    "be represented using LaTeX format, and the parsing should be organized according to the reading order."
)
_SPOTTING_EN = (
    "Detect and recognize text in the image, and output the text coordinates in a formatted manner."
)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "text", 1, OutputKind.TEXT, "Plain text in reading order.",
            "提取图中的文字。", "Extract the text in the image.",
        ),
        Task(
            "spotting", 1, OutputKind.REGIONS, "Text lines with their boxes in pixels of the page.",
            "检测并识别图片中的文字，将文本坐标格式化输出。", _SPOTTING_EN,
        ),
        Task("parse", 1, OutputKind.MARKDOWN, "The document as Markdown.", _PARSE_ZH, _PARSE_EN),
    )
}  # fmt: skip

ENGINE_TASKS: dict[str, tuple[str, ...]] = {
    "null": tuple(TASKS),
    "rapidocr": ("text", "spotting", "parse"),
}
"""What each engine can do, for when none is alive to tell; one that is not named here can do all."""
