"""What a caller may read and write in buckets, asked before anything is made."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from api.deps import Services
from api.problems import refused
from ocrfleet.errors import InputAccessDenied
from ocrfleet.rights import Rights, impossible, is_ours
from ocrfleet.store.tenants import Caller


def rights_of(services: Services, caller: Caller, job_id: UUID | None = None) -> Rights:
    """The caller's; with a job also to what is the job's own."""
    return Rights(services.settings.bucket, caller.tenant_id, caller.buckets, job_id)


def check_written(rights: Rights, bucket: str, prefix: str, pointer: str) -> None:
    """Refuse a prefix below which the caller may write nothing, or no store holds a key; `pointer` says where it stands.

    Keys are asked about one by one when they are written: a prefix may be covered in part.
    """
    if fault := _fault(prefix):
        raise refused((pointer, fault))
    try:
        if is_ours(bucket, prefix, rights.own):
            rights.check_writable(bucket, prefix)
        else:
            rights.check_prefix(bucket, prefix)
    except InputAccessDenied as exc:
        exc.extra["errors"] = [{"pointer": pointer, "detail": exc.detail}]
        raise


def _fault(prefix: str) -> str | None:
    # What follows the last slash is not a whole part yet.
    return impossible(prefix.rpartition("/")[0])


def check_output(
    rights: Rights, output: Mapping[str, Any], given: Mapping[str, Any], pointer: str = "/output/prefix"
) -> None:
    """Refuse results per item where the caller may write none; `given` is the input, as it is kept."""
    if not output.get("per_item"):
        return
    if fault := _fault(output["prefix"]):
        raise refused((pointer, fault))
    of_input = {"uploads": rights.own, "prefix": given.get("bucket")}
    if bucket := output.get("bucket") or of_input.get(given["type"]):
        check_written(rights, bucket, output["prefix"], pointer)
