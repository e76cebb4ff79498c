"""ETags: 304 for what has not changed, 412 for what was changed by somebody else."""

from typing import Any

import pytest
from api_rig import Api

BODY: dict[str, Any] = {"input": {"type": "prefix", "bucket": "scans", "prefix": "a/"}, "labels": {"a": "1"}}


@pytest.fixture
def url(api: Api) -> str:
    return api.http.post("/v1/jobs", json=BODY).headers["Location"]


def test_what_has_not_changed_is_not_sent_again(api: Api, url: str) -> None:
    first = api.http.get(url)
    tag = first.headers["ETag"]
    assert tag.startswith('W/"')
    for given in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        again = api.http.get(url, headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert api.http.get(url, headers={"If-None-Match": '"x"'}).json() == first.json()
    api.http.patch(url, json={"priority": 7})
    changed = api.http.get(url, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["priority"]) == (200, 7)
    assert changed.headers["ETag"] != tag


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/jobs"])
def test_other_answers_have_one_too(strict: Api, path: str) -> None:
    tag = strict.http.get(path).headers["ETag"]
    assert strict.http.get(path, headers={"If-None-Match": tag}).status_code == 304


def test_errors_streams_and_health_have_none(api: Api, url: str) -> None:
    for path in ("/v1/nothing", f"{url}/results", "/livez"):
        answer = api.http.get(path, headers={"If-None-Match": "*"})
        assert answer.status_code != 304
        assert "ETag" not in answer.headers


def test_a_change_of_what_was_changed_meanwhile_is_refused(api: Api, url: str) -> None:
    seen = api.http.get(url).headers["ETag"]
    assert api.http.patch(url, json={"labels": {"a": "2"}}, headers={"If-Match": seen}).status_code == 200
    late = api.http.patch(url, json={"labels": {"a": "3"}}, headers={"If-Match": seen})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert api.http.get(url).json()["labels"] == {"a": "2"}
    anew = api.http.get(url).headers["ETag"]
    changed = api.http.patch(url, json={"priority": 2}, headers={"If-Match": f'"x", {anew}'})
    assert changed.status_code == 200
    # The answer's own tag serves for the next change.
    after = {"If-Match": changed.headers["ETag"]}
    assert api.http.patch(url, json={"deadline": None}, headers=after).status_code == 200
    assert api.http.patch(url, json={"priority": 3}, headers={"If-Match": "*"}).status_code == 200


def test_the_tag_of_a_job_holds_for_changes_while_its_state_moves(api: Api, url: str) -> None:
    seen = api.http.get(url).headers["ETag"]
    assert api.http.post(f"{url}/pause").json()["state"] == "paused"
    assert api.http.get(url).headers["ETag"] != seen
    assert api.http.patch(url, json={"priority": 2}, headers={"If-Match": seen}).status_code == 200
