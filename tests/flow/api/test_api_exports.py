"""Exports and items over HTTP: what is asked for, what is refused, and what each answer holds."""

from typing import Any
from uuid import UUID

import pytest
from api_rig import Api, Expand, NewKey, NewWorker
from sqlalchemy import text

from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile
from ocrfleet.store import items

PREFIX = {"input": {"type": "prefix", "prefix": "2026/"}}
REGIONS = {"text": "a", "regions": [{"text": "a", "box": [0, 0, 9, 9], "confidence": None}]}


@pytest.fixture
def ended(api: Api, expand: Expand, new_worker: NewWorker) -> str:
    """A job of three inputs that is over: two read, with regions, and one dead."""
    assert api.http.post("/v1/jobs", json=PREFIX).status_code == 202
    job_id = expand(3)
    new_worker().settle([job_id], [REGIONS, CorruptFile("torn"), REGIONS])
    return str(job_id)


def make(api: Api, job_id: str, **body: Any) -> dict[str, Any]:
    answer = api.http.post(f"/v1/jobs/{job_id}/exports", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"/v1/exports/{answer.json()['id']}"
    return answer.json()


def test_an_export_is_made_shown_and_listed(api: Api, ended: str) -> None:
    made = make(api, ended, format="markdown")
    assert (made["state"], made["bucket"], made["prefix"]) == ("queued", "ocr", f"exports/{ended}/markdown/")
    assert api.http.get(f"/v1/exports/{made['id']}").json() == made
    other = make(api, ended, format="pdf", bucket="scans", prefix="searchable/")
    assert (other["bucket"], other["prefix"], other["partial"]) == ("scans", "searchable/", False)
    first = api.http.get(f"/v1/jobs/{ended}/exports", params={"page_size": 1}).json()
    second = api.http.get(
        f"/v1/jobs/{ended}/exports", params={"page_size": 1, "page_token": first["next_page_token"]}
    ).json()
    assert [first["data"], second["data"]] == [[other], [made]]
    assert second["next_page_token"] is None


def test_what_is_asked_again_while_it_runs_is_made_once(api: Api, ended: str, database: Database) -> None:
    made = make(api, ended, format="jsonl")
    assert make(api, ended, format="jsonl")["id"] == made["id"]
    with database.transaction() as session:
        acts = session.execute(text("SELECT act, subject, detail ->> 'format' FROM audit")).all()
        assert [tuple(act) for act in acts] == [("export", f"job:{ended}", "jsonl")]
        session.execute(text("UPDATE exports SET state = 'completed', finished_at = now()"))
    assert make(api, ended, format="jsonl")["id"] != made["id"]


def test_two_exports_do_not_write_to_one_place_at_a_time(api: Api, ended: str) -> None:
    make(api, ended, format="jsonl", prefix="here/")
    answer = api.http.post(f"/v1/jobs/{ended}/exports", json={"format": "markdown", "prefix": "here/"})
    assert (answer.status_code, answer.json()["code"]) == (409, "job_state_conflict")


def test_a_running_job_is_exported_only_if_its_lacks_are_known(
    api: Api, expand: Expand, new_worker: NewWorker
) -> None:
    api.http.post("/v1/jobs", json=PREFIX)
    job_id = expand(2)
    new_worker().settle([job_id], [REGIONS])
    answer = api.http.post(f"/v1/jobs/{job_id}/exports", json={"format": "jsonl"})
    assert (answer.status_code, answer.json()["code"], answer.json()["state"]) == (
        409,
        "job_state_conflict",
        "running",
    )
    assert make(api, str(job_id), format="jsonl", partial=True)["partial"] is True


@pytest.mark.parametrize("kind", ["pdf", "alto"])
def test_formats_that_need_places_say_how_to_get_them(
    api: Api, expand: Expand, new_worker: NewWorker, kind: str
) -> None:
    api.http.post("/v1/jobs", json=PREFIX)
    job_id = expand(2)
    new_worker().settle([job_id], [{"text": "a", "regions": None}, {"text": "b"}])
    answer = api.http.post(f"/v1/jobs/{job_id}/exports", json={"format": kind})
    assert answer.status_code == 422
    fault = answer.json()
    assert (fault["code"], fault["errors"][0]["pointer"]) == ("validation_failed", "/format")
    assert "options.regions" in fault["detail"]
    make(api, str(job_id), format="markdown")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/format"),
        ({"format": "docx"}, "/format"),
        ({"format": "jsonl", "bucket": "A B"}, "/bucket"),
        ({"format": "jsonl", "prefix": "x" * 513}, "/prefix"),
        ({"format": "jsonl", "prefix": "a\0"}, "/prefix"),
        ({"format": "jsonl", "partial": 1}, "/partial"),
        ({"format": "jsonl", "folder": "x"}, "/folder"),
    ],
)
def test_a_request_that_says_too_little_or_too_much_is_refused(
    api: Api, ended: str, body: dict[str, Any], pointer: str
) -> None:
    answer = api.http.post(f"/v1/jobs/{ended}/exports", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_items_are_listed_with_what_became_of_their_pages(api: Api, ended: str) -> None:
    url = f"/v1/jobs/{ended}/items"
    page = api.http.get(url, params={"page_size": 2}).json()
    rest = api.http.get(url, params={"page_size": 2, "page_token": page["next_page_token"]}).json()
    listed = page["data"] + rest["data"]
    assert (len(page["data"]), rest["next_page_token"]) == (2, None)
    assert [(item["ordinal"], item["key"]) for item in listed] == [(n, f"{n}.png") for n in range(3)]
    states = sorted((item["state"], item["code"]) for item in listed)
    assert states == [("dead", "corrupt_file"), ("succeeded", None), ("succeeded", None)]
    for item in listed:
        pages = item["pages"]
        assert pages["total"] == sum(count for name, count in pages.items() if name != "total") == 1
        assert api.http.get(f"/v1/items/{item['id']}").json() == item


def test_filters_of_items_hold_together(api: Api, ended: str) -> None:
    url = f"/v1/jobs/{ended}/items"
    (dead,) = api.http.get(url, params={"state": "dead"}).json()["data"]
    assert [
        one["id"] for one in api.http.get(url, params={"custom_id": dead["custom_id"]}).json()["data"]
    ] == [dead["id"]]
    assert [one["id"] for one in api.http.get(url, params={"key": dead["key"]}).json()["data"]] == [
        dead["id"]
    ]
    assert api.http.get(url, params={"key": dead["key"], "state": "succeeded"}).json()["data"] == []
    assert api.http.get(url, params={"state": "lost"}).status_code == 422
    assert api.http.get(url, params={"page_token": "x"}).status_code == 422


def test_a_filter_that_meets_few_gives_short_pages_and_goes_on(
    api: Api, ended: str, database: Database
) -> None:
    del api
    with database.transaction() as session:
        tenant = session.execute(text("SELECT tenant_id FROM jobs")).scalar_one()
        found: list[str] = []
        after, steps = -1, 0
        while after is not None:
            rows, behind = items.listing(
                session, tenant, UUID(ended), limit=10, after=after, state="succeeded", scanned=1
            )
            found += [row["key"] for row in rows]
            after, steps = behind, steps + 1  # type: ignore[assignment]
    assert len(found) == 2
    assert steps >= 3


def test_an_item_tells_its_pages_and_what_was_tried(api: Api, ended: str) -> None:
    (dead,) = api.http.get(f"/v1/jobs/{ended}/items", params={"state": "dead"}).json()["data"]
    (page,) = api.http.get(f"/v1/items/{dead['id']}/pages").json()["data"]
    assert (page["number"], page["state"], page["code"], page["detail"]) == (
        1,
        "dead",
        "corrupt_file",
        "torn",
    )
    (attempt,) = api.http.get(f"/v1/items/{dead['id']}/attempts").json()["data"]
    assert (attempt["page"], attempt["page_id"], attempt["code"]) == (1, page["id"], "corrupt_file")
    assert attempt["worker"] == "ocr"
    (read, _) = api.http.get(f"/v1/jobs/{ended}/items", params={"state": "succeeded"}).json()["data"]
    assert api.http.get(f"/v1/items/{read['id']}/attempts").json() == {"data": [], "next_page_token": None}
    (page,) = api.http.get(f"/v1/items/{read['id']}/pages").json()["data"]
    assert isinstance(page["seq"], int)


def test_pages_of_an_item_come_in_pages(api: Api, ended: str, database: Database) -> None:
    item = api.http.get(f"/v1/jobs/{ended}/items").json()["data"][0]["id"]
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO pages (item_id, job_id, number, state) SELECT :item, :job, n, 'canceled' "
                "FROM generate_series(2, 5) n"
            ),
            {"item": int(item), "job": ended},
        )
    numbers: list[int] = []
    token: str | None = None
    while True:
        params = {"page_size": 2, **({"page_token": token} if token else {})}
        answer = api.http.get(f"/v1/items/{item}/pages", params=params).json()
        numbers += [page["number"] for page in answer["data"]]
        token = answer["next_page_token"]
        if token is None:
            break
    assert numbers == [1, 2, 3, 4, 5]


def test_nothing_of_another_tenant_can_be_seen_or_exported(api: Api, ended: str, new_key: NewKey) -> None:
    made = make(api, ended, format="jsonl")
    item = api.http.get(f"/v1/jobs/{ended}/items").json()["data"][0]["id"]
    with api.client(new_key("other")) as other:
        paths = [f"/v1/jobs/{ended}/items", f"/v1/jobs/{ended}/exports", f"/v1/exports/{made['id']}"]
        paths += [f"/v1/items/{item}{more}" for more in ("", "/pages", "/attempts")]
        for path in paths:
            assert (other.get(path).status_code, path) == (404, path)
        asked = other.post(f"/v1/jobs/{ended}/exports", json={"format": "jsonl"})
        assert (asked.status_code, asked.json()["code"]) == (404, "not_found")


def test_items_of_a_deleted_job_are_gone_and_its_exports_stay(api: Api, ended: str) -> None:
    made = make(api, ended, format="jsonl")
    item = api.http.get(f"/v1/jobs/{ended}/items").json()["data"][0]["id"]
    assert api.http.delete(f"/v1/jobs/{ended}").status_code == 202
    assert api.http.get(f"/v1/jobs/{ended}/items").status_code == 404
    assert api.http.get(f"/v1/items/{item}").status_code == 404
    assert api.http.get(f"/v1/exports/{made['id']}").status_code == 200
