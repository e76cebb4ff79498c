"""A dead letter for people: what it is of, each attempt, and what can be done."""

from datetime import datetime

from ocrfleet.api_types import Attempt, Letter, LetterDetail
from ocrfleet.cli.console import put
from ocrfleet.errors import BY_CODE, RetryClass

SHORT = 72
_NEXT = {
    RetryClass.NEVER: "the input itself is at fault: submit a better one, then discard this letter:\n"
    '           ocrfleet dlq discard --id {id} --expect 1 --reason "…"',
    RetryClass.CALLER: "repair what it says, then run it again:\n           ocrfleet dlq redrive --id {id}",
    RetryClass.SAME: "once its cause is gone, run it again:\n           ocrfleet dlq redrive --id {id}",
    RetryClass.ESCALATE: "run it again with other parameters:\n"
    "           ocrfleet dlq redrive --id {id} --parameter max_pixels=1000000",
}
_NEXT_OF = {
    "encrypted_pdf": "run it again with its password:\n           ocrfleet dlq redrive --id {id} --option password=…",
    "output_truncated": "run it again with more tokens:\n"
    "           ocrfleet dlq redrive --id {id} --parameter max_tokens=16384",
    "manifest_invalid": "its line names no object: submit the line again, mended, then discard this letter:\n"
    '           ocrfleet dlq discard --id {id} --expect 1 --reason "…"',
}


def time(value: str | None) -> str:
    """A time of the API's, to the second."""
    return value[:19] if value else "-"


def many(count: int, what: str) -> str:
    """So many of them."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def short(detail: str | None) -> str:
    """One line of a table."""
    line = " ".join((detail or "").split())
    return line if len(line) <= SHORT else line[: SHORT - 1] + "…"


def page(of: Letter) -> str:
    """Where the page is."""
    number = f" page {of['page']}" if of["page"] else ""
    return f"s3://{of['bucket']}/{of['key']}{number}"


def describe(found: LetterDetail) -> None:
    """All of it, the attempts oldest first."""
    put(f"letter     {found['id']}{_stands(found)}")
    put(f"page       {page(found)}")
    if found["custom_id"]:
        put(f"custom id  {found['custom_id']}")
    put(f"job        {found['job_id']}")
    if error := found["error"]:
        put(f"error      {error.get('code') or found['code']}: {error.get('detail', '')}")
        more = {name: value for name, value in error.items() if name not in ("code", "detail", "retryable")}
        if more:
            put(f"           {_pairs(more)}")
    if found["thumbnail"]:
        put(f"picture    ocrfleet dlq show {found['id']} --thumbnail page.jpg")
    for attempt in found["attempts"]:
        _attempt(attempt)
    if found["state"] == "dead" and not found["discarded_at"]:
        put("")
        put(f"next       {next_step(found['code'] or '').format(id=found['id'])}")


def next_step(code: str) -> str:
    """What to do about a failure with this code; `{id}` stands for the letter's."""
    error = BY_CODE.get(code)
    return _NEXT_OF.get(code) or _NEXT[error.retry if error else RetryClass.SAME]


def _stands(found: LetterDetail) -> str:
    if found["state"] != "dead":
        return f", no longer dead: {found['state']} since redrive {found['redrive_id']}"
    return f", discarded {time(found['discarded_at'])}" if found["discarded_at"] else ""


def _attempt(attempt: Attempt) -> None:
    put("")
    alone = ", alone on its worker" if attempt["exclusive"] else ""
    put(f"attempt {attempt['attempt']}  {time(attempt['ended_at'])}{_lasted(attempt)}{alone}")
    put(f"  failed      {attempt['code']}: {attempt['detail']}")
    if attempt["worker"]:
        model = " ".join(filter(None, (attempt["model"], attempt["revision"])))
        put(f"  worker      {attempt['worker']} on {attempt['device']}{f', {model}' if model else ''}")
    if attempt["parameters"]:
        put(f"  parameters  {_pairs(attempt['parameters'])}")
    if attempt["timings_ms"]:
        put(
            f"  timings     {', '.join(f'{phase} {spent:,} ms' for phase, spent in attempt['timings_ms'].items())}"
        )
    if attempt["raw_tail"]:
        put("  raw output, its end:")
        for line in attempt["raw_tail"].splitlines():
            put(f"    | {_visible(line)}")


def _lasted(attempt: Attempt) -> str:
    if not attempt["started_at"]:
        return ""
    lasted = datetime.fromisoformat(attempt["ended_at"]) - datetime.fromisoformat(attempt["started_at"])
    return f", after {lasted.total_seconds():.1f} s"


def _pairs(members: dict[str, object]) -> str:
    return "  ".join(f"{name}={value}" for name, value in members.items() if value is not None)


def _visible(line: str) -> str:
    """What a model has written may hold what a terminal would obey."""
    return "".join(character if character.isprintable() else "\ufffd" for character in line)
