"""Rights: what our own bucket keeps is nobody else's, however a store may read a key, and a list of buckets is all of it."""

from uuid import UUID

import pytest

from ocrfleet.errors import InputAccessDenied
from ocrfleet.rights import OUR_PREFIXES, Rights, impossible, misnamed, readings

ME, OTHER, JOB = UUID(int=1), UUID(int=2), UUID(int=3)
ANY = Rights("ocr", ME, None, JOB)
SOME = Rights("ocr", ME, ("scans", "archive/2026/", "ocr/in/"), JOB)
BYPASSES = ("{}", "/{}", "//{}", "\\{}", "./{}", "a/../{}", "a\\..\\{}", "/a/../{}", "/\\{}", "/./{}")


def doubled(key: str) -> str:
    return key.replace("/", "//")


@pytest.mark.parametrize("prefix", OUR_PREFIXES)
@pytest.mark.parametrize("form", BYPASSES)
def test_what_our_bucket_keeps_is_nobodys_in_any_spelling(prefix: str, form: str) -> None:
    for key in (f"{prefix}{OTHER}/a.png", doubled(f"{prefix}{OTHER}/a.png"), prefix.replace("/", "\\") + "a"):
        named = form.format(key)
        assert not ANY.may_read("ocr", named)
        assert not ANY.may_write("ocr", named)
        assert ANY.may_read("scans", named), "another bucket may have such names"
        assert ANY.may_write("scans", named)


@pytest.mark.parametrize(
    "key", [f"uploads/{ME}/../{OTHER}/a", f"uploads/{ME}\\..\\{OTHER}\\a", f"uploads//{OTHER}/a"]
)
def test_no_way_leads_from_ones_own_place_to_anothers(key: str) -> None:
    assert not ANY.may_read("ocr", key)
    assert not ANY.may_write("ocr", key)


def test_ones_own_is_read_and_written_whatever_the_rights() -> None:
    for rights in (ANY, SOME):
        assert rights.may_read("ocr", f"uploads/{ME}/1/a.png")
        assert rights.may_read("ocr", f"files/{ME}/1")
        assert rights.may_write("ocr", f"uploads/{ME}/1/a.png.json")
        assert rights.may_write("ocr", f"exports/{JOB}/jsonl/_SUCCESS")
        for key in (f"files/{ME}/1", f"exports/{OTHER}/jsonl/_SUCCESS", f"exports/{JOB}", f"batches/{ME}/1"):
            assert not rights.may_write("ocr", key)


def test_the_image_of_a_request_is_for_its_job_alone() -> None:
    for rights in (ANY, SOME):
        assert rights.may_read("ocr", f"interactive/2026112010/{JOB}")
        assert not rights.may_write("ocr", f"interactive/2026112010/{JOB}")
        for key in (f"interactive/2026112010/{OTHER}", f"interactive/../files/{JOB}"):
            assert not rights.may_read("ocr", key)


@pytest.mark.parametrize(
    ("bucket", "key", "may"),
    [
        ("scans", "a.png", True),
        ("scans", "//a.png", True),
        ("scans2", "a.png", False),
        ("archive", "2026/a.png", True),
        ("archive", "2026x/a.png", False),
        ("archive", "2025/a.png", False),
        ("archive", "/2026/a.png", False),
        ("archive", "2026/../2025/a.png", False),
        ("archive", "2026/..\\2025/a.png", False),
        ("archive", "2025/../2026/a.png", False),
        ("ocr", "in/a.png", True),
        ("ocr", "results/a.png", False),
    ],
)
def test_a_list_of_buckets_is_all_that_there_is(bucket: str, key: str, may: bool) -> None:
    assert (SOME.may_read(bucket, key), SOME.may_write(bucket, key)) == (may, may)


def test_an_empty_list_is_no_bucket() -> None:
    assert not Rights("ocr", ME, ()).may_read("scans", "a")


@pytest.mark.parametrize(
    ("bucket", "prefix", "may"),
    [
        ("scans", "", True),
        ("archive", "", True),
        ("archive", "20", True),
        ("archive", "2026/11/", True),
        ("archive", "2025/", False),
        ("archive", "/2026/", False),
        ("other", "", False),
        ("ocr", "uploads/", True),
    ],
)
def test_a_prefix_is_refused_where_no_key_of_it_is_covered(bucket: str, prefix: str, may: bool) -> None:
    if may:
        SOME.check_prefix(bucket, prefix)
        return
    with pytest.raises(InputAccessDenied, match="has a right to") as caught:
        SOME.check_prefix(bucket, prefix)
    assert "tenants set" in caught.value.extra["next_step"]


def test_a_plain_key_has_one_reading() -> None:
    assert readings("a.b/..c/.d/e..") == ("a.b/..c/.d/e..",)
    assert readings("/a//b\\c/./d/") == ("/a//b\\c/./d/", "a/b\\c/d/", "a/b/c/d/")


@pytest.mark.parametrize("key", ["./a", "a/../b", "..", "a/.", "x" * 1025, "é" * 513])
def test_what_no_store_holds_is_known(key: str) -> None:
    assert impossible(key)


@pytest.mark.parametrize("key", ["a", ".a", "a..", "/a", "a//b", "é" * 512])
def test_what_a_store_may_hold_is_let_through(key: str) -> None:
    assert impossible(key) is None


@pytest.mark.parametrize(
    "right", ["", "a", "a b/", "/scans", "scans//a", "scans/a/../b", "scans/\\", "scans/a\0"]
)
def test_a_right_that_names_nothing_is_refused(right: str) -> None:
    assert misnamed(right)


@pytest.mark.parametrize("right", ["scans", "scans/", "archive/2026", "archive/2026/", "a.b-c/数据/"])
def test_a_right_is_a_bucket_or_a_prefix_of_it(right: str) -> None:
    assert misnamed(right) is None
