"""Uploads as the input of a job."""

from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from api.problems import refused
from api.schemas import UploadsInput
from ocrfleet.errors import UploadIncomplete
from ocrfleet.states import UploadState
from ocrfleet.store import uploads


def job_input(session: Session, tenant_id: UUID, given: UploadsInput) -> dict[str, Any]:
    """What the producer is left: the uploads as objects, under the ETags that they were completed with."""
    known = uploads.found(session, tenant_id, given.ids)
    faults = [
        (f"/input/ids/{n}", f"there is no upload {one}")
        for n, one in enumerate(given.ids)
        if one not in known or known[one]["state"] == UploadState.EXPIRED
    ]
    if faults:
        raise refused(*faults)
    for n, one in enumerate(given.ids):
        if known[one]["state"] != UploadState.COMPLETE:
            detail = f"The upload {one} is not complete: POST /v1/uploads/{one}/complete first."
            raise UploadIncomplete(detail, errors=[{"pointer": f"/input/ids/{n}", "detail": detail}])
    return {
        "type": "uploads",
        "objects": [
            {
                "bucket": known[one]["bucket"],
                "key": known[one]["key"],
                "etag": known[one]["etag"],
                "custom_id": known[one]["filename"],
            }
            for one in given.ids
        ],
    }
