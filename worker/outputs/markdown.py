"""Plain text from Markdown: the marks go, the words and formulas stay."""

import html
import re

_FENCE = re.compile(r"\s*(?:```|~~~)\w*\s*")
_CELL = re.compile(r"</t[dh]>\s*(?=<t[dh]\b)", re.IGNORECASE)
_LINE = re.compile(r"</(?:tr|caption|p|div|li|h[1-6])>|<br\s*/?>", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:table|thead|tbody|tfoot|tr|td|th|caption|p|div|span|b|i|u|s|em|strong|sub|sup|br|img|center|font"
    r"|figure|figcaption|h[1-6]|li|ul|ol|a)(?:\s+[\w:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+))*\s*/?>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp|#\d{1,6});")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_RULE = re.compile(r"\s*\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?\s*)?\s*")
_PREFIX = re.compile(r"\A\s{0,3}(?:#{1,6}\s+|(?:>\s?)+)")
_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")


def plain(markdown: str) -> str:
    """Cells of a table are parted by tabs, its rows by line ends; LaTeX stays as it is."""
    text = _LINE.sub("\n", _CELL.sub("\t", markdown))
    text = _ENTITY.sub(lambda found: html.unescape(found[0]).replace("\xa0", " "), _TAG.sub("", text))
    lines = text.split("\n")
    code = table = False
    kept: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if _FENCE.fullmatch(line):
            code = not code
            continue
        # The head of a table stands over its rule, every further row under another row.
        table = not code and "|" in line and (table or bool(_RULE.fullmatch(following)))
        if not (table and _RULE.fullmatch(line)):
            kept.append(line if code else _unmarked(line, table=table))
    return re.sub(r"\n(?:[ \r]*\n){2,}", "\n\n", "\n".join(kept)).strip()


def _unmarked(line: str, *, table: bool) -> str:
    line = _BOLD.sub(r"\1", _LINK.sub(r"\1", _PREFIX.sub("", line, count=1)))
    if not table:
        return line
    cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
    return "\t".join(cell.strip().replace("\\|", "|") for cell in cells)
