"""What fails on the command line says what to do, in a line of its own."""

from pathlib import Path

import pytest
from canned_api import CannedApi, call

from ocrfleet.advice import CALLS


@pytest.mark.parametrize("code", CALLS)
def test_the_command_line_tells_the_next_step_of_every_code(code: str, tmp_path: Path) -> None:
    """An older server says none: the command knows them itself."""
    problem = {"code": code, "detail": "It is so.", "status": 400, "request_id": "r1"}
    with CannedApi({"GET /v1/jobs/x": (400, problem)}) as api:
        _, _, err = call(api, tmp_path, "jobs", "show", "x")
    assert err == f"error: {code}: It is so. (request r1)\n  next: {CALLS[code]}\n"


def test_the_command_line_says_what_to_do_where_no_api_is(tmp_path: Path) -> None:
    with CannedApi({}) as gone:
        pass
    status, _, err = call(gone, tmp_path, "tasks")
    assert (status, "no answer from" in err) == (0, True)
    status, _, err = call(gone, tmp_path, "workers", "ls")
    assert status == 1
    assert err.splitlines()[-1] == (
        "  next: start it with `ocrfleet up`, or name another with OCRFLEET_URL and OCRFLEET_API_KEY"
    )
