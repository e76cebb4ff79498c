"""The JSON of an `extract`: what is repaired, what is not, and where a schema is broken."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrfleet.errors import OutputInvalid, ValidationFailed
from worker.outputs.fields import parse

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "total": {"type": "number"},
        "lines": {"type": "array", "items": {"type": "object", "required": ["a/b"]}},
    },
    "required": ["total"],
}


def test_strict_json_is_taken_as_it_is() -> None:
    assert parse('{"a": "1", "b": null}\n', None) == ({"a": "1", "b": None}, False)


@pytest.mark.parametrize(
    "answer",
    [
        '```json\n{"a": "it\'s"}\n```',
        'The fields are:\n{"a": "it\'s"}\nThat is all.',
        '{"a": "it\'s",}',
        '{"a": "it\'s", \n}',
        "{'a': \"it's\"}",
        "{'a': 'it\\'s'}",
        '[{"a": "it\'s"}]',
    ],
)
def test_one_reading_alone_is_repaired_and_marked(answer: str) -> None:
    assert parse(answer, None) == ({"a": "it's"}, True)


def test_quotes_commas_and_line_ends_inside_strings_survive_a_repair() -> None:
    assert parse("""{'a': 'say "x",}', 'b': "c\nd",}""", None) == ({"a": 'say "x",}', "b": "c\nd"}, True)
    assert parse(r"""{'a': 'b\\', 'c': '\u4e2d'}""", None) == ({"a": "b\\", "c": "中"}, True)


@pytest.mark.parametrize(
    "answer",
    [
        '{"a": "1", "b": "2',  # cut inside a value
        '{"a": "1", "b": {"c": 2}',
        '[{"a": 1}, {"b": 2',
        '{"a": {"b": 1}}, "c": 2}',
        '{"a": 1}, "c": 2',
        "{'a': 1}, 'c': 2",
        '"c": {"a": 1}',
        '[1, {"a": 1}',
        '{"a": 1} {"a": 2}',
        '[{"a": 1}, {"a": 2}]',
        "{'a': 'it's'}",
        '{"a": "say "x""}',
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '"text"',
        "no JSON at all",
        "[" * 5000,
        '{"a":' * 100 + "1" + "}" * 100,
        "",
    ],
)
def test_more_than_one_reading_is_refused(answer: str) -> None:
    with pytest.raises(OutputInvalid) as caught:
        parse(answer, None)
    assert caught.value.extra["pointer"] == ""
    assert "expected a JSON object" in caught.value.detail


def test_digits_beyond_64_bits_are_kept_as_text() -> None:
    long = "6222021234567890123456789"
    assert parse(f'{{"account": {long}, "id": 18446744073709551615}}', None)[0] == {
        "account": long,
        "id": 2**64 - 1,
    }
    assert parse('{"a": ' + "9" * 5000 + "}", None)[0] == {"a": "9" * 5000}


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _values, max_size=4))
def test_any_object_comes_through_plain_fenced_and_with_a_trailing_comma(value: dict[str, Any]) -> None:
    written = json.dumps(value)
    assert parse(written, None) == (value, False)
    assert parse(f"```json\n{written}\n```", None) == (value, True)
    if value:
        assert parse(written[:-1] + ",}", None) == (value, True)


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=4), st.data())
def test_a_cut_object_is_never_completed(value: dict[str, str], data: st.DataObject) -> None:
    written = json.dumps(value)
    with pytest.raises(OutputInvalid):
        parse(written[: data.draw(st.integers(0, len(written) - 1))], None)


@pytest.mark.parametrize(
    ("answer", "pointer", "expected"),
    [
        ('{"total": "12"}', "/total", 'type: "number"'),
        ("{}", "", 'required: ["total"]'),
        ('{"total": 1, "lines": [{"a/b": 1}, {}]}', "/lines/1", 'required: ["a/b"]'),
        ('{"total": 1, "lines": {}}', "/lines", 'type: "array"'),
    ],
)
def test_a_broken_schema_is_named_by_pointer_and_rule(answer: str, pointer: str, expected: str) -> None:
    with pytest.raises(OutputInvalid) as caught:
        parse(answer, SCHEMA)
    assert (caught.value.extra["pointer"], caught.value.extra["expected"]) == (pointer, expected)
    assert f"at {pointer or 'the top'}" in caught.value.detail


def test_a_pointer_escapes_its_steps() -> None:
    with pytest.raises(OutputInvalid) as caught:
        parse('{"a/b~c": 1}', {"properties": {"a/b~c": {"type": "string"}}})
    assert caught.value.extra["pointer"] == "/a~1b~0c"


def test_a_value_that_fits_comes_through() -> None:
    assert parse('{"total": 1.5, "lines": []}', SCHEMA) == ({"total": 1.5, "lines": []}, False)


class _Counting(BaseHTTPRequestHandler):
    seen = 0

    def do_GET(self) -> None:
        type(self).seen += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


def test_a_schema_cannot_make_the_worker_fetch_anything() -> None:
    with HTTPServer(("127.0.0.1", 0), _Counting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(ValidationFailed, match="output_schema"):
                parse("{}", {"$ref": f"http://127.0.0.1:{server.server_port}/schema.json"})
        finally:
            server.shutdown()
            thread.join()
    assert _Counting.seen == 0


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"type": 7}, {"properties": 3}, {"required": 7}], ids=str
)
def test_a_schema_that_is_none_is_the_callers_fault(schema: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed, match="output_schema"):
        parse("{}", schema)


def test_what_the_api_has_checked_is_not_checked_with_every_page() -> None:
    unused = {"properties": {"a": {"type": "nonsense"}}}
    assert parse("{}", unused) == ({}, False)
