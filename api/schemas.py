"""What the API takes: pydantic models with the limits that do not depend on settings."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
)

from ocrfleet.texts import Text as Text

MAX_KEY_BYTES = 1024
MAX_FIELDS, MAX_FIELD = 100, 256
MAX_LABELS = 16
MAX_DEADLINE = timedelta(days=366)


def _key(value: str) -> str:
    size = len(value.encode())
    if size > MAX_KEY_BYTES:
        msg = f"must have at most {MAX_KEY_BYTES} bytes, not {size}"
        raise ValueError(msg)
    return value


def _distinct(names: list[str]) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            msg = f"must not name {name!r} twice"
            raise ValueError(msg)
    return names


def _ahead(value: datetime) -> datetime:
    ahead = value - datetime.now(UTC)
    if not timedelta(0) < ahead <= MAX_DEADLINE:
        msg = f"must lie in the future, at most {MAX_DEADLINE.days} days ahead"
        raise ValueError(msg)
    return value


Bucket = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$")]
Key = Annotated[Text, Field(min_length=1), AfterValidator(_key)]
Glob = Annotated[Text, StringConstraints(min_length=1, max_length=MAX_KEY_BYTES)]
Name = Annotated[Text, StringConstraints(max_length=256)]
PageRanges = Annotated[
    str,
    StringConstraints(
        max_length=1000, pattern=r"^\s*\d{1,9}\s*(-\s*\d{1,9}\s*)?(,\s*\d{1,9}\s*(-\s*\d{1,9}\s*)?)*$"
    ),
    Field(description="Pages of a document, from 1.", examples=["1-3,7"]),
]
Priority = Annotated[int, Field(ge=0, le=9, strict=True, description="9 goes first within your tenant.")]
Deadline = Annotated[AwareDatetime, AfterValidator(_ahead)]
LabelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._/-]{1,64}$")]
TaskName = Annotated[Text, StringConstraints(min_length=1, max_length=64)]
FieldName = Annotated[Text, StringConstraints(min_length=1, max_length=MAX_FIELD, pattern=r"\S")]
FieldNames = Annotated[list[FieldName], Field(min_length=1, max_length=MAX_FIELDS), AfterValidator(_distinct)]


class Strict(BaseModel):
    """Refuses members it does not know, so that a misspelt one is no silent default."""

    model_config = ConfigDict(extra="forbid")


class ParameterOptions(Strict):
    """Over the task's own; engines that do not generate have nothing to set."""

    temperature: float | None = Field(None, ge=0, le=2, strict=True)
    top_p: float | None = Field(None, gt=0, le=1, strict=True)
    top_k: int | None = Field(None, ge=-1, le=1_000_000, strict=True, description="-1: all.")
    repetition_penalty: float | None = Field(None, ge=0.5, le=2, strict=True)
    max_tokens: int | None = Field(
        None, ge=1, le=32768, strict=True, description="Of the output; the engine's own limit may be lower."
    )
    max_pixels: int | None = Field(
        None, ge=262_144, le=16_777_216, strict=True, description="The page is scaled down to this."
    )


class PageOptions(Strict):
    """How a page is read."""

    password: Name | None = Field(None, description="Of an encrypted PDF.")
    target_language: Literal["en", "zh"] | None = Field(
        None, description="What the task `translate` translates to; default `en`."
    )
    prompt_language: Literal["zh", "en"] | None = Field(
        None, description="Of the catalogue's prompt; default is the engine's, as a rule `zh`, the better."
    )
    parameters: ParameterOptions | None = None
    cache: bool | None = Field(
        None,
        strict=True,
        description="False: read each page, although the result of one that asked the same may be known, and keep none.",
    )
    regions: bool | None = Field(
        None,
        strict=True,
        description="True: the results have regions whatever the task, which exports as pdf and alto need; an engine "
        "whose answer has none reads the page a second time, for them.",
    )


class JobOptions(PageOptions):
    """How the inputs of a job are read."""

    pages: PageRanges | None = None


class ObjectOptions(JobOptions):
    """How one object is read; what it has goes before the job's, parameter by parameter."""


class Wanted(Strict):
    """What is to be done with each page; the task's entry in GET /v1/tasks says what it needs and takes."""

    task: TaskName = Field("text", description="One of GET /v1/tasks.")
    prompt: Annotated[Text, StringConstraints(min_length=1)] | None = Field(
        None, description="In the place of the catalogue's; the kind of output stays the task's."
    )
    fields: FieldNames | None = Field(None, description="Names of what `extract` and `value` look for.")
    output_schema: dict[str, Any] | None = Field(
        None, description="A JSON Schema of an object with `properties`, to which `extract` is bound."
    )


class ObjectRef(Strict):
    """An object of the store."""

    bucket: Bucket | None = Field(None, description="Default: the fleet's own bucket.")
    key: Key
    custom_id: Name | None = Field(None, description="Handed back with each of the object's results.")
    etag: Name | None = Field(None, description="Refuse the object if it has changed since.")
    version_id: Name | None = None
    pages: PageRanges | None = None
    options: ObjectOptions | None = None


class ObjectsInput(Strict):
    """Objects named one by one; for more than the limit use a manifest."""

    type: Literal["objects"]
    objects: list[ObjectRef] = Field(min_length=1)


class PrefixInput(Strict):
    """Every object whose key begins so; globs choose among them."""

    type: Literal["prefix"]
    bucket: Bucket | None = None
    prefix: Annotated[Text, AfterValidator(_key)]
    include: list[Glob] = Field(default_factory=list[str], max_length=100)
    exclude: list[Glob] = Field(default_factory=list[str], max_length=100)


class ManifestInput(Strict):
    """A JSONL or CSV object, gzip'd or not, with one object to read a line, of any length."""

    type: Literal["manifest"]
    bucket: Bucket | None = None
    key: Key


class UploadsInput(Strict):
    """Complete uploads of yours."""

    type: Literal["uploads"]
    ids: list[UUID] = Field(min_length=1, max_length=1000)


class JobOutput(Strict):
    """What is written to a bucket as the job runs."""

    per_item: bool = Field(
        default=False,
        strict=True,
        description="`<prefix><key>.json` for each object, when its last page has ended.",
    )
    bucket: Bucket | None = Field(None, description="Default: that of the object.")
    prefix: Annotated[Text, AfterValidator(_key)] = "results/"
    on_existing: Literal["overwrite", "skip", "fail"] = Field(
        "overwrite", description="For objects whose result is there already: `skip` does not read them again."
    )


class JobRequest(Wanted):
    """A job: what to read, and how."""

    input: Annotated[ObjectsInput | PrefixInput | ManifestInput | UploadsInput, Field(discriminator="type")]
    options: JobOptions | None = None
    output: JobOutput | None = None
    webhook_ids: list[UUID] = Field(
        default_factory=list[UUID],
        max_length=16,
        description="Of /v1/webhooks: told of this job besides those told of all.",
    )
    validate_only: bool = Field(
        default=False, strict=True, description="Make no job: count, look for faults, and estimate."
    )
    priority: Priority = 0
    deadline: Deadline | None = Field(None, description="What is not done by then is canceled.")
    labels: dict[LabelName, Name] = Field(default_factory=dict[str, str], max_length=MAX_LABELS)

    def normalized_input(self, bucket: str) -> dict[str, Any]:
        """As it is kept for the producer: every bucket is filled in."""
        data = self.input.model_dump(exclude_none=True)
        if isinstance(self.input, ObjectsInput):
            return data | {"objects": [{"bucket": bucket, **member} for member in data["objects"]]}
        return {"bucket": bucket, **data}


class ImageRef(Strict):
    """An image that is in the store already."""

    bucket: Bucket | None = None
    key: Key


class PageParameters(Wanted):
    """How one image is read."""

    options: PageOptions | None = None


class OcrRequest(PageParameters):
    """One image: base64, a data URI, or an object of the store."""

    image: Annotated[
        Annotated[str, Tag("text")] | Annotated[ImageRef, Tag("object")],
        Discriminator(lambda value: "text" if isinstance(value, str) else "object"),
    ]
