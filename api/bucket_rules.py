"""Bucket rules: which objects of a bucket are read unasked, and how."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Query, Response
from pydantic import Field, ValidationError
from sqlalchemy import RowMapping

from api import buckets, rules, schemas, tokens
from api.deps import GivenCaller, GivenServices, Services
from api.event_sources import RowId, Slug
from api.idempotency import NewId
from api.problems import documented, refused
from api.rule_answers import RULE, RULE_EXAMPLES, RuleInfo, RuleList
from api.schemas import Bucket, Strict, Text
from ocrfleet import inputs
from ocrfleet.errors import FleetError, NotFound
from ocrfleet.rights import OUR_PREFIXES, Rights, is_ours
from ocrfleet.store import rules as store

router = APIRouter(prefix="/v1/bucket-rules", tags=["bucket events"])

Part = Annotated[Text, Field(max_length=schemas.MAX_KEY_BYTES)]
Rescan = Annotated[
    int, Field(ge=10, le=30 * 86400, strict=True, description="How often the prefix is listed.")
]
_SHOWN: dict[str, Any] = {"content": {"application/json": {"example": RULE}}}
_WEBHOOKS = "/job/webhook_ids"


class RuleJob(schemas.Wanted):
    """The jobs that a rule makes."""

    options: schemas.JobOptions | None = None
    output: schemas.JobOutput | None = None
    webhook_ids: list[UUID] = Field(default_factory=list[UUID], max_length=16)
    priority: schemas.Priority = 0
    labels: dict[schemas.LabelName, schemas.Name] = Field(
        default_factory=dict[str, str],
        max_length=schemas.MAX_LABELS - 1,
        description="Besides `rule`, which has the rule's name.",
    )


class RuleRequest(Strict):
    """Which objects, and what is done with them."""

    name: Slug
    bucket: Bucket | None = Field(None, description="Default: the fleet's own bucket.")
    prefix: Part = Field("", description="Of the keys.")
    suffix: Part = Field("", description="Of the keys, such as `.pdf`.")
    job: RuleJob
    enabled: bool = Field(default=True, strict=True)
    rescan_seconds: Rescan = 900


_ANY_JOB = RuleJob.model_validate({})


class RuleChanges(Strict):
    """What is to be different; members that are not there stay as they are, `job` is replaced as a whole."""

    name: Slug = ""
    prefix: Part = ""
    suffix: Part = ""
    job: RuleJob = _ANY_JOB
    enabled: bool = Field(default=True, strict=True)
    rescan_seconds: Rescan = 900


@router.post(
    "",
    status_code=201,
    summary="Make a rule",
    responses={
        201: _SHOWN,
        **documented(
            "validation_failed", "unknown_task", "prompt_too_long", "input_access_denied", "forbidden"
        ),
    },
)
def create_bucket_rule(
    body: Annotated[RuleRequest, Body(openapi_examples=RULE_EXAMPLES)],
    caller: GivenCaller,
    services: GivenServices,
    response: Response,
    new_id: NewId,
) -> RuleInfo:
    """Objects that are there already are taken too, by the first listing, which begins at once."""
    bucket, job = body.bucket or services.settings.bucket, _checked(services, body.job)
    _check_place(buckets.rights_of(services, caller), bucket, body.prefix, job)
    new = store.NewRule(
        caller.tenant_id,
        body.name,
        bucket,
        body.prefix,
        body.suffix,
        job,
        body.enabled,
        body.rescan_seconds,
        new_id,
    )
    try:
        with services.database.transaction() as session:
            rules.check_webhooks(session, caller.tenant_id, body.job.webhook_ids, _WEBHOOKS)
            rule_id = store.create(session, new, actor=caller.key_id)
            row = store.get(session, caller.tenant_id, rule_id)
    except store.NameTaken as exc:
        raise _taken(body.name) from exc
    response.headers["Location"] = f"{router.prefix}/{rule_id}"
    return _found(row, rule_id)


@router.get("", summary="List rules, newest first", responses=documented("validation_failed", "forbidden"))
def list_bucket_rules(
    caller: GivenCaller,
    services: GivenServices,
    name: Annotated[Slug | None, Query(description="Only the rule of this name.")] = None,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    page_token: Annotated[
        str | None, Query(description="`next_page_token` of the answer before.", max_length=200)
    ] = None,
) -> RuleList:
    """With how their last listing went."""
    before = tokens.read(page_token, int)[0] if page_token else None
    with services.database.transaction() as session:
        # One more than asked for, to know whether there is a next page.
        rows = store.listing(session, caller.tenant_id, limit=page_size + 1, before=before, name=name)
    shown = rows[:page_size]
    token = tokens.write(shown[-1]["id"]) if len(rows) > page_size else None
    return RuleList(data=[_view(row) for row in shown], next_page_token=token)


@router.get(
    "/{rule_id}",
    summary="See a rule",
    responses={200: _SHOWN, **documented("not_found", "validation_failed", "forbidden")},
)
def get_bucket_rule(rule_id: RowId, caller: GivenCaller, services: GivenServices) -> RuleInfo:
    """With how its last listing went, and the job that it fills just now."""
    with services.database.transaction() as session:
        return _found(store.get(session, caller.tenant_id, rule_id), rule_id)


@router.patch(
    "/{rule_id}",
    summary="Change a rule",
    responses={
        200: _SHOWN,
        **documented(
            "not_found",
            "validation_failed",
            "unknown_task",
            "prompt_too_long",
            "input_access_denied",
            "forbidden",
        ),
    },
)
def change_bucket_rule(
    rule_id: RowId,
    body: Annotated[
        RuleChanges, Body(openapi_examples={"off": {"summary": "Switch it off", "value": {"enabled": False}}})
    ],
    caller: GivenCaller,
    services: GivenServices,
) -> RuleInfo:
    """Its prefix is listed anew at once; objects that it has taken are not taken again."""
    changes = body.model_dump(exclude_unset=True)
    if "job" in changes:
        changes["job"] = _checked(services, body.job)
    try:
        with services.database.transaction() as session:
            rule = store.lock(session, caller.tenant_id, rule_id)
            if rule is None:
                raise NotFound(f"There is no bucket rule {rule_id}.")
            if changes.keys() & {"prefix", "job"}:
                asked = {**rule, **changes}
                held = buckets.rights_of(services, caller)
                _check_place(held, rule["bucket"], asked["prefix"], asked["job"])
            if "job" in changes:
                changes["job"] = store.kept(changes["job"], rule["job"])
                rules.check_webhooks(session, caller.tenant_id, body.job.webhook_ids, _WEBHOOKS)
            store.change(session, rule, changes, actor=caller.key_id)
            return _found(store.get(session, caller.tenant_id, rule_id), rule_id)
    except store.NameTaken as exc:
        raise _taken(body.name) from exc


@router.delete(
    "/{rule_id}",
    summary="Delete a rule",
    responses={200: _SHOWN, **documented("not_found", "validation_failed", "forbidden")},
)
def delete_bucket_rule(rule_id: RowId, caller: GivenCaller, services: GivenServices) -> RuleInfo:
    """Its jobs stay. A rule of the same name knows nothing of what this one has taken."""
    with services.database.transaction() as session:
        rule = store.lock(session, caller.tenant_id, rule_id)
        shown = _found(rule and store.get(session, caller.tenant_id, rule_id), rule_id)
        if rule is not None:
            store.delete(session, rule, actor=caller.key_id)
    return shown


def _checked(services: Services, job: RuleJob) -> dict[str, Any]:
    """The job as it is kept, checked as one that is submitted; its faults are below /job."""
    asked = job.model_dump(exclude_none=True)
    try:
        whole = schemas.JobRequest.model_validate({**asked, "input": {"type": "prefix", "prefix": ""}})
        options = rules.check_wanted(services, whole)
    except ValidationError as exc:
        raise refused(*(("/job", str(fault["msg"])) for fault in exc.errors())) from exc
    except FleetError as exc:
        faults: list[dict[str, str]] = exc.extra.get("errors") or []
        for fault in faults:
            fault["pointer"] = f"/job{fault['pointer']}"
        raise
    if job.output and job.output.on_existing != "overwrite":
        raise refused(("/job/output/on_existing", "a rule takes each version once, and overwrites"))
    kept = {name: asked[name] for name in ("task", "prompt", "output", "priority", "labels") if name in asked}
    return kept | {"options": options, "webhook_ids": [str(one) for one in job.webhook_ids]}


def _check_place(rights: Rights, bucket: str, prefix: str, job: Mapping[str, Any]) -> None:
    """Refuse a rule that would take nothing, or write where its tenant may not."""
    if is_ours(bucket, prefix, rights.own):
        named = ", ".join(OUR_PREFIXES)
        raise refused(("/prefix", f"of the fleet's own bucket {named} are left out of every rule"))
    given = {"type": "prefix", "bucket": bucket, "prefix": prefix}
    inputs.check(given, rights)
    buckets.check_output(rights, job.get("output") or {}, given, "/job/output/prefix")


def _taken(name: str) -> FleetError:
    return refused(("/name", f"{name!r} is the name of another rule"))


def _found(row: RowMapping | None, rule_id: int) -> RuleInfo:
    if row is None:
        raise NotFound(f"There is no bucket rule {rule_id}.")
    return _view(row)


def _view(row: RowMapping) -> RuleInfo:
    job: dict[str, Any] = dict(row["job"])
    options: dict[str, Any] = store.disclosed(job)["options"]
    for name in ("fields", "output_schema"):
        if name in options:
            job[name] = options.pop(name)
    members: dict[str, Any] = {**row, "id": str(row["id"]), "job": {**job, "options": options}}
    return RuleInfo(**members)
