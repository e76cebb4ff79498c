"""`run` from files to outputs: against an API over HTTP and a store in memory."""

import json
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import KEY, FakeApi

from ocrfleet.cli.bulk import Place
from ocrfleet.cli.console import Exit, Interrupted, interruptible
from ocrfleet.cli.record import hold
from ocrfleet.cli.run import Order, carry_out_order
from ocrfleet.cli.wanted import Wanted
from ocrfleet.client import Client
from ocrfleet.errors import FleetError, InputNotFound, JobStateConflict, UnknownTask, ValidationFailed
from ocrfleet.settings import Settings


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as api:
        yield api


@pytest.fixture
def order(tmp_path: Path) -> Order:
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "a.pdf").write_text("one\ftwo")
    (scans / "b.png").write_text("bee")
    return Order(paths=[str(scans)], out=tmp_path / "out")


def execute(api: FakeApi, order: Order) -> Exit:
    @contextmanager
    def place(_: Settings) -> Generator[Place]:
        with Client(api.url, KEY, attempts=3) as client:
            yield Place(client, api.blobs, "bucket")

    return carry_out_order(order, Settings(state=order.out.parent / "state"), place)


def interrupt_after(api: FakeApi, order: Order, seq: int) -> None:
    api.hold.clear()
    api.on_result = lambda now: os.kill(os.getpid(), signal.SIGINT) if now == seq else None
    with pytest.raises(Interrupted), interruptible():
        execute(api, order)
    api.on_result = lambda _: None
    api.hold.set()


def submissions(api: FakeApi) -> int:
    return sum(request.startswith("POST") for request in api.requests)


def results(order: Order) -> list[tuple[str, int]]:
    lines = map(json.loads, (order.out / "results.jsonl").read_text().splitlines())
    return [(line["custom_id"], line["page"]) for line in lines]


ALL = [("a.pdf", 1), ("a.pdf", 2), ("b.png", 1)]


def test_every_input_ends_with_its_outputs(api: FakeApi, order: Order) -> None:
    assert execute(api, order) is Exit.OK
    assert (order.out / "a.pdf.txt").read_text() == "one\n\ntwo\n"
    assert (order.out / "b.png.txt").read_text() == "bee\n"
    assert results(order) == ALL
    summary = json.loads((order.out / "summary.json").read_text())
    assert summary["pages"] == {"total": 3, "succeeded": 3, "dead": 0, "canceled": 0}


@pytest.mark.parametrize(("others", "status"), [("fine", Exit.PARTIAL), ("!corrupt_file", Exit.FAILED)])
def test_the_exit_code_tells_how_the_job_ended(
    api: FakeApi, order: Order, others: str, status: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.pdf", "b.png"):
        (Path(order.paths[0]) / name).write_text(others)
    (Path(order.paths[0]) / "bad.pdf").write_text(
        "fine\f!encrypted_pdf" if status is Exit.PARTIAL else "!encrypted_pdf"
    )
    assert execute(api, order) is status
    printed = capsys.readouterr().out
    assert "encrypted_pdf (1): save the PDF without its password" in printed
    assert f"bad.pdf page {2 if status is Exit.PARTIAL else 1}: encrypted_pdf it is" in printed


def test_after_an_interrupt_the_same_call_goes_on(api: FakeApi, order: Order) -> None:
    interrupt_after(api, order, 2)
    uploads = list(api.blobs.puts)
    assert execute(api, order) is Exit.OK
    assert (submissions(api), api.blobs.puts) == (1, uploads)
    assert results(order) == ALL


def test_results_that_an_earlier_call_has_are_not_fetched_again(api: FakeApi, order: Order) -> None:
    interrupt_after(api, order, 1)
    [job] = api.jobs
    [path] = (order.out.parent / "state/runs").glob("*/results.jsonl")
    path.write_text("".join(json.dumps(result) + "\n" for result in api.results[job][:2]))
    seen = len(api.requests)
    assert execute(api, order) is Exit.OK
    [stream] = [request for request in api.requests[seen:] if "/results" in request]
    assert stream.endswith("cursor=2")
    assert results(order) == ALL


def test_a_job_submitted_just_before_a_kill_is_found_by_its_label(api: FakeApi, order: Order) -> None:
    interrupt_after(api, order, 1)
    [remembered] = (order.out.parent / "state/runs").glob("*/job")
    remembered.unlink()
    api.hold.clear()
    api.on_result = lambda _: api.hold.set()
    assert execute(api, order) is Exit.OK
    assert submissions(api) == 1
    assert results(order) == ALL


def test_a_remembered_job_that_is_gone_is_submitted_again(api: FakeApi, order: Order) -> None:
    interrupt_after(api, order, 1)
    api.jobs.clear()
    assert execute(api, order) is Exit.OK
    assert results(order) == ALL


def test_files_may_go_and_come_while_their_job_waits_to_be_finished(api: FakeApi, order: Order) -> None:
    interrupt_after(api, order, 1)
    (Path(order.paths[0]) / "a.pdf").unlink()
    (Path(order.paths[0]) / "0-new.png").write_text("new")
    assert execute(api, order) is Exit.OK
    assert results(order) == ALL


def test_a_finished_run_begins_anew_and_uploads_only_what_changed(api: FakeApi, order: Order) -> None:
    execute(api, order)
    (Path(order.paths[0]) / "b.png").write_text("BEE")
    api.blobs.puts.clear()
    assert execute(api, order) is Exit.OK
    assert submissions(api) == 2
    assert [put.rpartition("/")[2].rpartition(".")[2] for put in api.blobs.puts] == ["png", "jsonl"]
    assert (order.out / "b.png.txt").read_text() == "BEE\n"
    assert list((order.out.parent / "state/runs").glob("*/")) == []


def test_other_options_are_another_run(api: FakeApi, order: Order) -> None:
    interrupt_after(api, order, 1)
    assert execute(api, replace(order, wanted=Wanted(pages="1"))) is Exit.OK
    assert submissions(api) == 2


def test_what_is_wanted_goes_into_the_job_and_makes_it_a_run_of_its_own(api: FakeApi, order: Order) -> None:
    schema = order.out.parent / "schema.json"
    schema.write_text('{"type": "object"}')
    asked = Wanted(task="extract", prompt="all", fields=["a", "b"], schema=schema, to="zh", pages="1")
    interrupt_after(api, order, 1)
    assert execute(api, replace(order, wanted=asked)) is Exit.OK
    first, second = api.jobs.values()
    members = ("task", "prompt", "fields", "output_schema", "options")
    assert [first.get(name) for name in members] == ["text", None, None, None, None]
    assert [second[name] for name in members] == [
        "extract",
        "all",
        ["a", "b"],
        {"type": "object"},
        {"pages": "1", "target_language": "zh"},
    ]


def test_another_schema_in_the_same_file_is_another_run(api: FakeApi, order: Order) -> None:
    schema = order.out.parent / "schema.json"
    order = replace(order, wanted=Wanted(task="extract", schema=schema))
    for number, text in enumerate(('{"a": 1}', '{"a": 2}', '{"a": 2}')):
        schema.write_text(text)
        if number < 2:
            interrupt_after(api, order, 1)
        else:
            execute(api, order)
    assert [job["output_schema"] for job in api.jobs.values()] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(("text", "error"), [(None, InputNotFound), ("{", ValidationFailed)])
def test_nothing_starts_for_a_schema_that_cannot_be_read(
    api: FakeApi, order: Order, text: str | None, error: type[FleetError]
) -> None:
    schema = order.out.parent / "schema.json"
    if text:
        schema.write_text(text)
    with pytest.raises(error, match=r"schema\.json"):
        execute(api, replace(order, wanted=Wanted(schema=schema)))
    assert api.requests == []


def test_the_same_run_twice_at_once_is_refused(api: FakeApi, order: Order) -> None:
    execute(api, order)
    [lock] = (order.out.parent / "state/runs").glob("*.lock")
    with hold(order.out.parent / "state", lock.stem), pytest.raises(JobStateConflict):
        execute(api, order)


def test_when_another_ones_fleet_stops_the_run_goes_on_in_its_own(api: FakeApi, order: Order) -> None:
    with FakeApi() as gone:
        pass
    urls = [gone.url, api.url]

    @contextmanager
    def place(_: Settings) -> Generator[Place]:
        url = urls.pop(0)
        with Client(url, KEY, attempts=1) as client:
            yield Place(client, api.blobs, "bucket", ours=not urls)

    assert carry_out_order(order, Settings(state=order.out.parent / "state"), place) is Exit.OK
    assert results(order) == ALL


def test_nothing_starts_for_a_path_or_task_that_is_wrong(api: FakeApi, order: Order) -> None:
    with pytest.raises(InputNotFound):
        execute(api, replace(order, paths=["/nowhere/at/all"]))
    with pytest.raises(UnknownTask, match="sing"):
        execute(api, replace(order, wanted=Wanted(task="sing")))
    assert api.requests == []


def test_nothing_is_uploaded_for_a_task_that_the_fleet_cannot_do(api: FakeApi, order: Order) -> None:
    with pytest.raises(UnknownTask, match=r"chart.*text, spotting"):
        execute(api, replace(order, wanted=Wanted(task="chart")))
    assert api.blobs.puts == []


@pytest.mark.parametrize(("word", "status"), [("bee", Exit.OK), ("wasp", Exit.FAILED)])
def test_expectations_decide_the_exit_code(
    api: FakeApi, order: Order, word: str, status: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(order.paths[0]) / "bad.pdf").write_text("!corrupt_file")
    expected: dict[str, Any] = {
        "b.png": {"code": None, "contains": [word]},
        "bad.pdf": {"code": "corrupt_file", "contains": []},
    }
    path = Path(order.paths[0]) / "expected.json"
    path.write_text(json.dumps(expected))
    assert execute(api, replace(order, expect=path)) is status
    assert [name for name, _ in results(order)] == ["b.png", "bad.pdf"]
    assert ("NOT AS EXPECTED: its text lacks 'wasp'" in capsys.readouterr().out) == (word == "wasp")
