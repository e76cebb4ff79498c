"""What the files of an export hold for programs: ALTO, Parquet."""

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest
from exports_rig import Kept, ended_job
from test_exporter_formats import export, region, result

from ocrfleet.db import Database
from ocrfleet.errors import CorruptFile
from producer.exports.alto import NAMESPACE


@pytest.fixture
def store() -> Kept:
    return Kept()


def test_alto_has_every_word_in_its_place(database: Database, store: Kept) -> None:
    page = result(
        800,
        1000,
        region('Total & <net> "x"', 100, 100, 500, 140),
        region("a\nb", 10, 200, 50, 240, label="text"),
    )
    pages = [page, CorruptFile("torn"), {"text": "no pixels", "image": None}]
    export(database, store, "alto", ended_job(database, {"ä&<.pdf": pages}))
    root = ElementTree.fromstring(store.under()["ä&<.pdf.xml"])  # noqa: S314
    name = {"a": NAMESPACE}
    assert root.tag == f"{{{NAMESPACE}}}alto"
    assert [child.tag.rpartition("}")[2] for child in root] == ["Description", "Layout"]
    assert root.findtext("a:Description/a:MeasurementUnit", None, name) == "pixel"
    assert root.findtext("a:Description/a:sourceImageInformation/a:fileName", None, name) == "in/ä&<.pdf"
    sheets = root.findall("a:Layout/a:Page", name)
    assert [sheet.attrib["PHYSICAL_IMG_NR"] for sheet in sheets] == ["1", "2", "3"]
    assert (sheets[0].attrib["WIDTH"], sheets[0].attrib["HEIGHT"]) == ("800", "1000")
    assert [len(sheet) for sheet in sheets] == [1, 0, 0]
    blocks = sheets[0].findall("a:PrintSpace/a:TextBlock", name)
    lines = [line for block in blocks for line in block.findall("a:TextLine", name)]
    said = [[word.attrib["CONTENT"] for word in line.findall("a:String", name)] for line in lines]
    assert said == [["Total", "&", "<net>", '"x"'], ["a"], ["b"]]
    assert [child.tag.rpartition("}")[2] for child in lines[0]] == ["String", "SP"] * 3 + ["String"]
    places = [place(word) for word in lines[0].findall("a:String", name)]
    assert places[0][0] == 100
    assert abs(places[-1][0] + places[-1][2] - 500) < 0.01
    assert all(left[0] + left[2] < right[0] for left, right in pairwise(places))
    assert place(lines[1]) == (10, 200, 40, 20)
    assert place(lines[2]) == (10, 220, 40, 20)
    ids = [element.attrib["ID"] for element in root.iter() if "ID" in element.attrib]
    assert len(ids) == len(set(ids))
    assert {word.attrib["WC"] for word in root.iter(f"{{{NAMESPACE}}}String")} == {"0.9"}


def place(element: ElementTree.Element) -> tuple[float, ...]:
    return tuple(float(element.attrib[side]) for side in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))


def test_parquet_has_a_row_for_each_page(database: Database, store: Kept, tmp_path: Path) -> None:
    first = result(800, 1000, region("Total", 100, 100, 500, 140)) | {
        "fields": {"total": "12"},
        "warnings": ["low_resolution"],
        "usage": {"prompt_tokens": 1, "output_tokens": 2, "image_tokens": 3},
        "timings_ms": {"infer": 640},
        "model": "m",
        "confidence": 0.5,
    }
    items = {
        "a.pdf": [first, CorruptFile("torn")],
        **{f"{n:04}.png": [{"text": str(n)}] for n in range(1100)},
    }
    job_id = ended_job(database, items)
    ended = export(database, store, "parquet", job_id)
    (tmp_path / "part").write_bytes(store.under()["part-00000.parquet"])
    with pq.ParquetFile(tmp_path / "part") as file:
        assert file.num_row_groups == 2
        rows = file.read().to_pylist()
    assert len(rows) == 1102
    assert rows[0]["regions"] == [
        {"text": "Total", "box": [100, 100, 500, 140], "confidence": pytest.approx(0.9), "label": None}
    ]
    expected = {"key": "a.pdf", "page": 1, "state": "succeeded", "text": "Total", "fields": '{"total":"12"}'}
    expected |= {
        "width": 800,
        "warnings": ["low_resolution"],
        "image_tokens": 3,
        "infer_ms": 640,
        "model": "m",
    }
    assert {name: rows[0][name] for name in expected} == expected
    dead = {name: rows[1][name] for name in ("page", "state", "code", "detail", "text", "regions")}
    assert dead == {
        "page": 2,
        "state": "dead",
        "code": "corrupt_file",
        "detail": "torn",
        "text": None,
        "regions": None,
    }
    assert [row["text"] for row in rows[2:]] == [str(n) for n in range(1100)]
    assert rows[0]["job_id"] == str(job_id)
    assert {line["output"] for line in store.manifest()} == {"part-00000.parquet"}
    assert (ended["items"], ended["bytes"]) == (1101, len(store.under()["part-00000.parquet"]))
