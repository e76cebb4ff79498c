"""What is to be done with each page: the options that `run` and `submit` share, and the request made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from ocrfleet.catalogue import TASKS
from ocrfleet.errors import InputNotFound, ValidationFailed

TaskOption = Annotated[str, typer.Option(help=f"What to do: {', '.join(TASKS)}; see `ocrfleet tasks`.")]
PagesOption = Annotated[str | None, typer.Option(help="Only these pages of each document, such as 1-3,7.")]
PromptOption = Annotated[
    str | None, typer.Option(help="What to ask the model, in the place of the task's own words.")
]
FieldOption = Annotated[
    list[str] | None, typer.Option(help="A field that `extract` or `value` looks for; may be repeated.")
]
SchemaOption = Annotated[
    Path | None, typer.Option(help="File with the JSON Schema that `extract` is bound to.")
]
ToOption = Annotated[
    Literal["en", "zh"] | None, typer.Option(help="What `translate` translates to; en by default.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The members of a job's request that say it."""

    task: str = "text"
    pages: str | None = None
    prompt: str | None = None
    fields: Sequence[str] | None = None
    schema: Path | None = None
    to: str | None = None

    def request(self) -> dict[str, Any]:
        """Keyword arguments for `Client.create_job`; InputNotFound and ValidationFailed for the schema's file."""
        options = {
            name: value for name, value in (("pages", self.pages), ("target_language", self.to)) if value
        }
        return {
            "task": self.task,
            "prompt": self.prompt,
            "fields": self.fields or None,
            "output_schema": _load(self.schema) if self.schema else None,
            "options": options or None,
        }


def _load(path: Path) -> object:
    try:
        return orjson.loads(path.read_bytes())
    except OSError as exc:
        raise InputNotFound(f"{path}: {exc.strerror}") from exc
    except orjson.JSONDecodeError as exc:
        raise ValidationFailed(f"{path} is no JSON: {exc}") from exc
