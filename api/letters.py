"""Dead letters: what failed, why, with all that was tried; and giving it up."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import Field, StringConstraints
from sqlalchemy import RowMapping

from api import letter_answers as answers
from api import tokens
from api.deps import GivenCaller, GivenServices
from api.problems import documented, refused
from api.schemas import Strict, Text
from ocrfleet.errors import BY_CODE, InputNotFound, NotFound
from ocrfleet.store import letters
from ocrfleet.store.letters import LetterFilter

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])
LetterId = Annotated[int, Path(ge=1, lt=2**63, description="The page's.")]
Reason = Annotated[Text, StringConstraints(min_length=1, max_length=1000)]
_LARGEST_THUMBNAIL = 1024 * 1024
DISCARD_EXAMPLE = {
    "summary": "One code of one job",
    "value": {
        "filter": {"job_id": answers.JOB_ID, "codes": ["corrupt_file"]},
        "expected_count": 312,
        "reason": "scanned again",
    },
}

_LIST_EXAMPLE = {
    "content": {"application/json": {"example": {"data": [answers.LETTER], "next_page_token": None}}}
}


PageId = Annotated[int, Field(ge=1, lt=2**63)]


class LetterQuery(LetterFilter):
    """A filter, and what of it is wanted."""

    group_by: Literal["code", "revision", "worker", "job"] | None = Field(
        None, description="Count them so, in the place of a list."
    )
    page_ids: list[PageId] | None = Field(
        None, min_length=1, max_length=1000, description="Ids of the letters; a URL holds no more."
    )
    page_size: int = Field(50, ge=1, le=500)
    page_token: str | None = Field(
        None, max_length=200, description="`next_page_token` of the answer before."
    )


class DiscardRequest(Strict):
    """Which letters are given up, how many that is, and why."""

    filter: LetterFilter
    expected_count: int = Field(ge=0, strict=True, description="Nothing is done unless it is the number.")
    reason: Reason


class Jpeg(Response):
    """An image, as the documentation has to name it."""

    media_type = "image/jpeg"


def check_meant(which: LetterFilter, pointer: str = "/filter") -> None:
    """Raise ValidationFailed for a filter that names nothing and does not say that all are meant."""
    if not which.given:
        raise refused((pointer, 'names nothing; {"all": true} means every dead letter'))


@router.get(
    "",
    summary="List dead letters, newest first, or count them in groups",
    responses={200: _LIST_EXAMPLE, **documented("validation_failed")},
)
def list_dead_letters(
    caller: GivenCaller, services: GivenServices, query: Annotated[LetterQuery, Query()]
) -> answers.LetterList | answers.LetterGroups:
    """Inputs that could not be read at all stand beside pages that failed. Nothing expires unasked."""
    before: tuple[datetime, int] | None = None
    if query.page_token:
        created_at, page_id = tokens.read(query.page_token, datetime.fromisoformat, int)
        before = created_at, page_id
    with services.database.transaction() as session:
        if query.group_by:
            groups = letters.groups(session, caller.tenant_id, query, query.group_by)
            return answers.LetterGroups(data=[_group(row) for row in groups])
        # One more than asked for, to know whether there is a next page.
        rows = letters.listing(session, caller.tenant_id, query, limit=query.page_size + 1, before=before)
    shown = rows[: query.page_size]
    more = len(rows) > query.page_size
    token = tokens.write(shown[-1]["created_at"], shown[-1]["id"]) if more else None
    return answers.LetterList(data=[answers.Letter(**_letter(row)) for row in shown], next_page_token=token)


@router.get(
    "/{letter_id}",
    summary="See one letter with every attempt",
    responses=documented("not_found", "validation_failed"),
)
def get_dead_letter(
    letter_id: LetterId, caller: GivenCaller, services: GivenServices
) -> answers.LetterDetail:
    """Also one that was discarded, or that a redrive has brought back: its attempts stay."""
    with services.database.transaction() as session:
        row = _found(letters.get(session, caller.tenant_id, letter_id), letter_id)
        attempts = letters.attempts(session, letter_id)
    pictured = any(attempt["thumbnail"] for attempt in attempts)
    return answers.LetterDetail(
        **_letter(row),
        thumbnail=f"{router.prefix}/{letter_id}/thumbnail" if pictured else None,
        attempts=[answers.Attempt(**attempt) for attempt in attempts],
    )


@router.get(
    "/{letter_id}/thumbnail",
    summary="See the page, small",
    response_class=Jpeg,
    responses={
        200: {
            "description": "At most 320 x 320 pixels.",
            "content": {Jpeg.media_type: {"example": "(a JPEG)"}},
        },
        **documented("not_found", "validation_failed", "storage_unavailable"),
    },
)
def get_thumbnail(letter_id: LetterId, caller: GivenCaller, services: GivenServices) -> Jpeg:
    """Of the last attempt that had one: pages that were never decoded have none."""
    with services.database.transaction() as session:
        _found(letters.get(session, caller.tenant_id, letter_id), letter_id)
        keys: list[str] = [
            row["thumbnail"] for row in letters.attempts(session, letter_id) if row["thumbnail"]
        ]
    missing = NotFound(f"There is no thumbnail of the page {letter_id}.")
    if not keys:
        raise missing
    try:
        fetched = services.blobs.fetch(services.settings.bucket, keys[-1], max_bytes=_LARGEST_THUMBNAIL)
    except InputNotFound as exc:
        raise missing from exc
    return Jpeg(fetched.data)


@router.post(
    "/discard",
    summary="Give letters up",
    responses=documented("job_state_conflict", "validation_failed"),
)
def discard_dead_letters(
    body: Annotated[DiscardRequest, Body(openapi_examples={"code": DISCARD_EXAMPLE})],  # type: ignore[arg-type]
    caller: GivenCaller,
    services: GivenServices,
) -> answers.Discarded:
    """They leave the list and no redrive brings them back; their pages stay dead, with their history."""
    check_meant(body.filter)
    with services.database.transaction() as session:
        discarded = letters.discard(
            session,
            caller.tenant_id,
            caller.key_id,
            body.filter,
            expected=body.expected_count,
            reason=body.reason,
        )
    return answers.Discarded(discarded=discarded)


def _found(row: RowMapping | None, letter_id: int) -> RowMapping:
    if row is None:
        raise NotFound(f"There is no dead letter {letter_id}.")
    return row


def _letter(row: RowMapping) -> dict[str, Any]:
    error: dict[str, Any] = row["error"] or {}
    known = BY_CODE.get(row["code"] or "")
    return {
        **row,
        "id": str(row["id"]),
        "item_id": str(row["item_id"]),
        "redrive_id": None if row["redrive_id"] is None else str(row["redrive_id"]),
        "retryable": error.get("retryable", known().retryable if known else None),
        "detail": error.get("detail"),
    }


def _group(row: RowMapping) -> answers.LetterGroup:
    example = answers.LetterExample(id=str(row["example"]), code=row["code"], detail=row["detail"])
    return answers.LetterGroup(
        key=row["key"], count=row["count"], newest=row["newest"], oldest=row["oldest"], example=example
    )
