"""One way from a model's raw text to a result, whatever engine it came from."""

import json
import re
from dataclasses import replace

from ocrfleet.catalogue import TASKS, OutputKind, schema_of
from ocrfleet.errors import OutputInvalid, OutputTruncated, RepetitionLoop
from worker.engines.base import PageRequest, PageResult, Region
from worker.engines.plain import is_blank
from worker.outputs import confidence, fields, json_text, language, markdown, spotting, tails
from worker.outputs.generated import Generated

_LAYOUT = frozenset({"layout", "layout_parse"})
_OWN_WORDS = frozenset({"question", "prompt"})
"""Tasks in whose answers "no text" is an answer like any other."""
_NO_TEXT = re.compile(r"(?:该?(?:图|页)[片像面]?[中里上]?)?(?:没有|无)(?:任何|可识别的?)?文字[。.!！]?")
_COORDINATES = re.compile(r"\(\s*\d{1,4}\s*,\s*\d{1,4}\s*\)")
_BOXES = re.compile(rf"{_COORDINATES.pattern}\s*,\s*{_COORDINATES.pattern}")
_WORDS = re.compile(r"[^\W_]|[$\\]")
"""Letters, figures, or the signs of a formula, whose points are no boxes."""
_MARKS = re.compile(r"<[^<>]*>")


def interpret(request: PageRequest, generated: Generated) -> PageResult:
    """The result of the page; raises the E errors, the raw text among their extras as `partial`."""
    text, warnings = _ended(request, generated)
    kind = TASKS[request.task].output
    sure = confidence.Confidence(generated.text, generated.tokens)
    silent = _says_no_text(request.task, text)
    try:
        result = _NOTHING[kind] if silent or not text.strip() else _READERS[kind](request, text, sure)
    except json_text.NotJsonError as exc:
        raise OutputInvalid(
            f"the JSON of the answer cannot be read: {exc} (character {exc.position})",
            partial=generated.text,
        ) from exc
    except OutputInvalid as exc:
        exc.extra["partial"] = generated.text
        raise
    page = sure.page(len(text))
    if silent or (_is_empty(result) and request.pixels is not None and is_blank(request.pixels)):
        warnings.append("blank_page")
    elif page is not None and page < confidence.LOW:
        warnings.append("low_confidence")
    return replace(
        result,
        confidence=page,
        language=None if kind is OutputKind.FIELDS else language.detect(result.text),
        warnings=(*warnings, *result.warnings),
        usage={
            "prompt_tokens": generated.prompt_tokens,
            "output_tokens": generated.output_tokens,
            "image_tokens": generated.image_tokens,
        },
        finish_reason=generated.finish_reason,
    )


def _ended(request: PageRequest, generated: Generated) -> tuple[str, list[str]]:
    """The text to read, and its warnings.

    The authors stop a loop and keep what stood before it. After a loop that had to be stopped the rest of the page
    was never read, so here that is a failure; only a model that ended by itself behind its tail has read it all.
    """
    raw = generated.text
    trimmed = tails.trim(raw)
    if generated.finish_reason == "repetition" or (
        generated.finish_reason == "length" and (trimmed is not None or tails.loops(raw))
    ):
        raise RepetitionLoop(
            f"the model repeated itself until it was stopped, after {generated.output_tokens} tokens",
            actual=generated.output_tokens,
            partial=raw,
        )
    if generated.finish_reason == "length":
        limit = request.parameters.max_tokens
        raise OutputTruncated(
            f"the output reached the limit of tokens: limit {limit}, actual {generated.output_tokens}",
            limit=limit,
            actual=generated.output_tokens,
            partial=raw,
        )
    return (raw, []) if trimmed is None else (trimmed, ["tail_trimmed"])


def _says_no_text(task: str, text: str) -> bool:
    return task not in _OWN_WORDS and _NO_TEXT.fullmatch(text.strip()) is not None


def _is_empty(result: PageResult) -> bool:
    return not result.text and not result.regions and result.markdown is None and result.fields is None


def _text(request: PageRequest, text: str, sure: confidence.Confidence) -> PageResult:
    found = spotting.layout(text) if request.task in _LAYOUT else None
    if found is None:
        return PageResult(text.strip())
    return PageResult(
        text.strip(), regions=_regions(request, found, sure), warnings=_repaired(found.repaired)
    )


def _markdown(request: PageRequest, text: str, sure: confidence.Confidence) -> PageResult:
    found = spotting.layout(text) if request.task in _LAYOUT else None
    if found is not None:
        return PageResult(
            _joined(found, "\n"),
            markdown=_joined(found, "\n\n"),
            regions=_regions(request, found, sure),
            warnings=_repaired(found.repaired),
        )
    if _BOXES.search(text) and not _WORDS.search(_COORDINATES.sub("", _MARKS.sub("", text))):
        raise OutputInvalid("the answer is nothing but coordinates", expected="Markdown")
    return PageResult(markdown.plain(text), markdown=text.strip())


def _spotted(request: PageRequest, text: str, sure: confidence.Confidence) -> PageResult:
    found = spotting.parse(text)
    if found is None or (found.found and not any(line.text and line.box for line in found.found)):
        lacking = "coordinates" if found is None or _joined(found, "") else "text beside its coordinates"
        raise OutputInvalid(f"the answer has no {lacking}", expected="lines with boxes")
    return PageResult(
        _joined(found, "\n"), regions=_regions(request, found, sure), warnings=_repaired(found.repaired)
    )


def _fields(request: PageRequest, text: str, sure: confidence.Confidence) -> PageResult:  # noqa: ARG001 (as the others)
    values, repaired = fields.parse(text, schema_of(request.task, request.options))
    written = json.dumps(values, ensure_ascii=False) if repaired else text.strip()
    return PageResult(written, fields=values, warnings=_repaired(repaired))


_READERS = {
    OutputKind.TEXT: _text,
    OutputKind.MARKDOWN: _markdown,
    OutputKind.REGIONS: _spotted,
    OutputKind.FIELDS: _fields,
}
_NOTHING = {kind: PageResult("", regions=[] if kind is OutputKind.REGIONS else None) for kind in OutputKind}


def _repaired(repaired: bool) -> tuple[str, ...]:  # noqa: FBT001 (the warning's own condition)
    return ("json_repaired",) if repaired else ()


def _joined(spotted: spotting.Spotted, separator: str) -> str:
    return separator.join(piece.text for piece in spotted.found if piece.text)


def _regions(request: PageRequest, spotted: spotting.Spotted, sure: confidence.Confidence) -> list[Region]:
    """Pieces with a box and a text or a label. Without a page there is nothing to scale to: 0 to 1000 it stays."""
    height, width = (spotting.SCALE,) * 2 if request.pixels is None else request.pixels.shape[:2]
    return [
        Region(piece.text, spotting.to_pixels(piece.box, width, height), sure.of(piece.span), piece.label)
        for piece in spotted.found
        if piece.box is not None and (piece.text or piece.label)
    ]
