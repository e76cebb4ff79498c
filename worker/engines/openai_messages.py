"""What the engine `openai` says to its server and what the server says back, as bytes and as our own types."""

import base64
import codecs
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from ocrfleet import catalogue
from ocrfleet.catalogue import Parameters
from ocrfleet.errors import OutputInvalid
from worker.engines.base import PageRequest, Pixels
from worker.engines.scaling import image_of
from worker.outputs.generated import Generated

QUALITY = 90
"""Of the JPEG in which a page travels."""
EXTRAS = ("logprobs", "top_k", "repetition_penalty")
"""Members that servers other than vLLM may refuse; a page is then asked for without them."""


class MalformedAnswer(ValueError):  # noqa: N818 (a verdict, not an error of ours)
    """The server said 200 and no chat completion."""


def jpeg(pixels: Pixels, max_pixels: int) -> bytes:
    """The page, scaled down to `max_pixels`; grey where it has no colour."""
    buffer = io.BytesIO()
    # With half the colour (4:2:0) small red print on blue is lost; pages without colour, the most, are grey anyway.
    image_of(pixels, max_pixels).save(buffer, "JPEG", quality=QUALITY, subsampling="4:4:4")
    return buffer.getvalue()


def body(request: PageRequest, model: str, image: bytes, without: Collection[str]) -> bytes:
    """A chat completion's request, without the members that the server has refused."""
    prompt = catalogue.build_prompt(request.task, request.prompt, request.options)
    schema = catalogue.schema_of(request.task, request.options)
    url = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
    # The model is used to an empty system message.
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": content}]
    members: dict[str, Any] = {"model": model, "messages": messages, **_sampling(request)}
    if schema is not None:
        members["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "fields", "schema": schema},
        }
    return orjson.dumps({name: value for name, value in members.items() if name not in without})


def probe(model: str) -> bytes:
    """The cheapest request that proves that a server reads pages."""
    request = PageRequest("probe", "text", None, parameters=Parameters(max_tokens=1, repetition_penalty=1.0))
    white = np.full((64, 64, 3), 255, np.uint8)
    return body(request, model, jpeg(white, white.size), EXTRAS)


def models(answer: bytes) -> list[dict[str, Any]]:
    """What `GET /models` lists; each has an `id`."""
    try:
        listed = orjson.loads(answer)["data"]
        return [entry for entry in listed if isinstance(entry["id"], str)]
    except (ValueError, LookupError, TypeError) as exc:
        raise MalformedAnswer(f"the server answered with no list of models: {_start(answer)}") from exc


def _sampling(request: PageRequest) -> dict[str, Any]:
    """What stands at its neutral value is left out, for servers that do not know it."""
    given = request.parameters
    members: dict[str, Any] = {
        "max_tokens": given.max_tokens,
        "temperature": given.temperature,
        "top_p": given.top_p,
        "logprobs": True,
    }
    if given.top_k > 0:
        members["top_k"] = given.top_k
    if given.repetition_penalty != 1.0:
        members["repetition_penalty"] = given.repetition_penalty
    return members


def generated(answer: bytes) -> Generated:
    """`MalformedAnswer` when it is no completion, `OutputInvalid` when it is one of something that is not text."""
    try:
        completion = orjson.loads(answer)
        choice = completion["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, LookupError, TypeError) as exc:
        raise MalformedAnswer(f"the server answered with no chat completion: {_start(answer)}") from exc
    if not isinstance(text, str | None):
        raise OutputInvalid(f"the server answered with {type(text).__name__} instead of text")
    usage: dict[str, Any] = completion.get("usage") or {}
    logprobs: dict[str, Any] = choice.get("logprobs") or {}
    return Generated(
        text=text or "",
        finish_reason=_finish_reason(choice),
        tokens=_tokens(logprobs.get("content") or (), len(text or "")),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        output_tokens=int(usage.get("completion_tokens") or 0),
    )


def _start(answer: bytes) -> str:
    return repr(answer[:200].decode(errors="replace"))


def _finish_reason(choice: Mapping[str, Any]) -> str:
    reason = choice.get("finish_reason")
    if reason in ("abort", "error"):
        raise MalformedAnswer(f"the server gave up the page: {reason}")
    return reason if reason in ("length", "repetition") else "stop"


def _tokens(entries: Sequence[Mapping[str, Any]], characters: int) -> list[tuple[str, float]]:
    """The pieces that make up the text, as far as it goes: the token that ended it is no part of it.

    A token may end within a character; its bytes then count to the piece that ends the character.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    tokens: list[tuple[str, float]] = []
    for entry in entries:
        if characters <= 0:
            break
        raw = entry.get("bytes")
        piece = entry["token"] if raw is None else decoder.decode(bytes(raw))
        tokens.append((piece, float(entry["logprob"])))
        characters -= len(piece)
    return tokens
