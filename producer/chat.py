"""A line of a batch's input file: a chat completion about one image, as what our fleet is asked."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import orjson

from ocrfleet.catalogue import LANGUAGES, TASKS, build_prompt

URL = "/v1/chat/completions"
MAX_CUSTOM_ID = 256
_CUSTOM_ID = re.compile(rf"[^\x00\ud800-\udfff]{{1,{MAX_CUSTOM_ID}}}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_MAX_KEY = 1024
# As `options.parameters` of a job has them, and what OpenAI's API calls them.
_PARAMETERS: dict[str, tuple[str, type, float, float]] = {
    "max_tokens": ("max_tokens", int, 1, 32768),
    "max_completion_tokens": ("max_tokens", int, 1, 32768),
    "temperature": ("temperature", float, 0, 2),
    "top_p": ("top_p", float, 0.000001, 1),
    "top_k": ("top_k", int, -1, 1_000_000),
    "repetition_penalty": ("repetition_penalty", float, 0.5, 2),
}
# Of what has one page, which then need not be counted.
_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/jpg": ".jpg", "image/bmp": ".bmp"}
_ONLY: dict[str, tuple[object, ...]] = {"n": (None, 1), "stream": (None, False), "tools": (None, [])}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is done with images, as a job has it; equal ones share a job."""

    task: str
    prompt: str | None
    options: str
    """JSON, its members in order."""


@dataclass(frozen=True, slots=True)
class Inline:
    """An image that the line itself brings, and how the key of its object ends."""

    data: bytes
    suffix: str


@dataclass(frozen=True, slots=True)
class Request:
    """One line. The image is in it, or is an object: bucket and key."""

    custom_id: str
    wanted: Wanted
    image: Inline | tuple[str, str]


class LineFault(Exception):  # noqa: N818 (a finding about the caller's line)
    """What is wrong with a line. Without a `custom_id` nobody could tell which it was: the file is no batch."""

    def __init__(
        self, code: str, message: str, param: str | None = None, custom_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.custom_id = custom_id


def custom_id_of(raw: bytes) -> tuple[str, dict[str, Any]]:
    """The line's `custom_id` and members; LineFault for what is no request at all."""
    try:
        given: object = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise LineFault("invalid_json_line", f"The line is not JSON: {exc}") from exc
    if not isinstance(given, dict):
        raise LineFault("invalid_json_line", "The line is not a JSON object.")
    members = cast("dict[str, Any]", given)
    custom_id: object = members.get("custom_id")
    if not isinstance(custom_id, str) or not _CUSTOM_ID.fullmatch(custom_id):
        raise LineFault(
            "missing_required_parameter",
            f"`custom_id` must have 1 to {MAX_CUSTOM_ID} characters.",
            "custom_id",
        )
    if members.get("method") != "POST":
        raise LineFault("invalid_method", "`method` must be POST.", "method")
    if members.get("url") != URL:
        raise LineFault("invalid_url", f"`url` must be {URL}, the endpoint of the batch.", "url")
    return custom_id, members


def parse(custom_id: str, members: Mapping[str, Any], *, max_bytes: int) -> Request:
    """What the line asks for; LineFault for what cannot be done."""
    body = members.get("body")
    if not isinstance(body, dict):
        raise LineFault("invalid_request", "`body` must be an object.", "body", custom_id)
    asked = cast("dict[str, Any]", body)
    try:
        _check_supported(asked)
        text, url = _content(asked.get("messages"))
        return Request(custom_id, _wanted(text, _parameters(asked)), _image(url, max_bytes))
    except LineFault as fault:
        fault.custom_id = custom_id
        raise


def _check_supported(body: Mapping[str, Any]) -> None:
    for name, allowed in _ONLY.items():
        if body.get(name) not in allowed:
            raise LineFault("unsupported_parameter", f"`{name}` is not supported.", f"body.{name}")


def _content(messages: object) -> tuple[str, str]:
    """The text and the one image url of the user's messages."""
    texts, urls = list[str](), list[str]()
    for part in _parts(messages):
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "image_url", "image_url": {"url": str(url)}} | {
                "type": "image_url",
                "image_url": str(url),
            }:
                urls.append(url)
            case _:
                detail = "A part of a message's content is of the type `text` or `image_url`."
                raise LineFault("invalid_request", detail, "body.messages")
    if len(urls) != 1:
        detail = f"The messages must have one image_url, not {len(urls)}."
        raise LineFault("invalid_request", detail, "body.messages")
    return "\n".join(texts).strip(), urls[0]


def _parts(messages: object) -> Iterator[object]:
    if not isinstance(messages, list):
        raise LineFault("invalid_request", "`messages` must be a list.", "body.messages")
    for message in cast("list[object]", messages):
        match message:
            case {"role": "user", "content": str(text)}:
                yield {"type": "text", "text": text}
            case {"role": "user", "content": list()}:
                yield from cast("dict[str, list[object]]", message)["content"]
            case _:
                detail = "Messages are of the role `user`, with a text or a list of parts as `content`."
                raise LineFault("invalid_request", detail, "body.messages")


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (ours, kind, least, most) in _PARAMETERS.items():
        value: object = body.get(name)
        if value is None:
            continue
        fits = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
        if not fits or not least <= cast("float", value) <= most:
            detail = f"`{name}` must be a number from {least:g} to {most:g}, not {repr(value)[:60]}."
            raise LineFault("invalid_request", detail, f"body.{name}")
        found[ours] = value
    return found


def _known_prompts() -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    for task in TASKS.values():
        if task.needs or not task.prompt_zh:
            continue
        for language in ("zh", "en"):
            targets = list(LANGUAGES) if "target_language" in task.takes else [None]
            for target in targets:
                options = {"prompt_language": language} | ({"target_language": target} if target else {})
                yield build_prompt(task.name, None, options), (task.name, options)


_KNOWN = dict(_known_prompts())


def _wanted(prompt: str, parameters: dict[str, Any]) -> Wanted:
    """A prompt of the catalogue is its task; without one it is plain text; any other is a free prompt."""
    if "\0" in prompt:
        raise LineFault("invalid_request", "The text must not contain NUL characters.", "body.messages")
    task, options = _KNOWN.get(prompt, ("prompt" if prompt else "text", dict[str, Any]()))
    options = options | ({"parameters": parameters} if parameters else {})
    kept = orjson.dumps(options, option=orjson.OPT_SORT_KEYS).decode()
    return Wanted(task, prompt if task == "prompt" else None, kept)


def _image(url: str, max_bytes: int) -> Inline | tuple[str, str]:
    where = "body.messages"
    if url.startswith("data:"):
        header, _, packed = url.partition(",")
        if not header.endswith(";base64"):
            raise LineFault(
                "invalid_image_url", "A data URI must be of the form data:<type>;base64,<data>.", where
            )
        if len(packed) * 3 // 4 > max_bytes + 2:
            detail = f"The image may have {max_bytes} bytes, it has about {len(packed) * 3 // 4}."
            raise LineFault("image_too_large", detail, where)
        try:
            data = base64.b64decode(packed, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise LineFault("invalid_base64_image", "The data URI is not base64.", where) from exc
        if not data:
            raise LineFault("invalid_image_url", "The data URI has no bytes.", where)
        kind = header.removeprefix("data:").partition(";")[0].lower()
        return Inline(data, _SUFFIXES.get(kind, ""))
    if url.startswith("s3://"):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        if (
            not _BUCKET.fullmatch(bucket)
            or not 0 < len(key.encode("utf-8", "replace")) <= _MAX_KEY
            or "\0" in key
        ):
            raise LineFault("invalid_image_url", "An object is named as s3://bucket/key.", where)
        return bucket, key
    raise LineFault(
        "invalid_image_url",
        f"The fleet fetches nothing from the net ({url[:60]!r}): send a data: URI, or s3://bucket/key.",
        where,
    )
