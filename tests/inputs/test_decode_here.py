"""Which images the worker decodes itself, and which in a process that has less to lose."""

import pytest
from children import children
from files import FILES, encoded
from PIL import Image
from road import Road

from ocrfleet.documents import Limits, MediaType
from ocrfleet.images import PLAIN_BYTES, PLAIN_SCANS, decode_image
from ocrfleet.sandbox import Sandbox
from ocrfleet.settings import Settings

LIMITS = Limits.of(Settings())


@pytest.mark.parametrize("name", FILES)
def test_only_plain_jpeg_and_png_are_decoded_in_this_process(name: str) -> None:
    data, kind = FILES[name]
    with Sandbox(1, LIMITS) as box:
        before = children()
        decoded = box.decode(data)
        assert (children() != before) is (kind not in (MediaType.JPEG, MediaType.PNG))
    expected = decode_image(data, 0, LIMITS)
    assert (decoded.pixels == expected.pixels).all()
    assert decoded.pixels.flags.c_contiguous
    assert decoded.warnings == expected.warnings


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.new("1", (5000, 4001)), "PNG"),
        encoded(Image.new("L", (5000, 4001)), "JPEG"),
        FILES["png"][0] + bytes(PLAIN_BYTES),
        FILES["jpeg"][0] + b"\xff\xda" * PLAIN_SCANS,
    ],
    ids=["png of many pixels", "jpeg of many pixels", "png of many bytes", "jpeg of many scans"],
)
def test_what_would_cost_this_process_too_much_is_decoded_in_a_child(data: bytes) -> None:
    with Sandbox(1, LIMITS) as box:
        before = children()
        assert (box.decode(data).pixels == decode_image(data, 0, LIMITS).pixels).all()
        assert children() != before


def test_the_worker_decodes_no_risky_image_itself() -> None:
    before = children()
    road = Road()
    # The first file that a road leads is a GIF.
    assert children() != before
    road.close()
    assert children() == before
