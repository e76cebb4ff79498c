"""Files read in subprocesses: pages come out upright and bounded, and a dying child costs its own request only."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from children import children, new_child
from files import corner, encoded, encrypted_pdf, noise, pdf, pdf_page, slow_pdf
from PIL import Image

from ocrfleet.documents import Limits, MediaType
from ocrfleet.errors import (
    CorruptFile,
    DecompressionBomb,
    EmptyFile,
    EncryptedPdf,
    ImageTooSmall,
    Internal,
    RenderTimeout,
    TooManyPages,
    ValidationFailed,
)
from ocrfleet.images import decode_image
from ocrfleet.sandbox import RECYCLE_AFTER, Counted, Sandbox
from ocrfleet.settings import Settings

LIMITS = Limits.of(Settings())
Save = Callable[..., Path]
# Takes minutes to draw, so that there is time to kill whoever draws it.
ENDLESS = slow_pdf(200)


@pytest.fixture(scope="module")
def sandbox() -> Generator[Sandbox]:
    with Sandbox(1, LIMITS) as box:
        yield box


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(data: bytes, name: str = "file") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_pages_of_a_pdf_and_of_a_tiff_are_counted_and_others_are_one(sandbox: Sandbox, save: Save) -> None:
    assert sandbox.count(save(pdf(*[pdf_page()] * 7))) == Counted(MediaType.PDF, 7)
    frames = encoded(corner(), "TIFF", save_all=True, append_images=[corner(), corner()])
    assert sandbox.count(save(frames)) == Counted(MediaType.TIFF, 3)
    assert sandbox.count(save(encoded(corner(), "GIF"), "wrong.pdf")) == Counted(MediaType.GIF, 1)


def test_a_pdf_page_is_drawn_at_the_resolution_asked_for(sandbox: Sandbox, save: Save) -> None:
    decoded = sandbox.render(save(pdf(pdf_page(), pdf_page("1 0 0 rg 0 0 72 72 re f", "0 0 144 72"))), 2)
    assert decoded.pixels.shape == (200, 400, 3)
    assert decoded.pixels[100, 100].tolist() == [255, 0, 0]
    assert decoded.pixels[100, 300].tolist() == [255, 255, 255]
    assert decoded.warnings == ()


@pytest.mark.parametrize(("turn", "y", "x"), [(0, 399, 0), (90, 0, 0), (180, 0, 199), (270, 199, 399)])
def test_a_turned_page_is_drawn_upright(sandbox: Sandbox, save: Save, turn: int, y: int, x: int) -> None:
    page = pdf_page("1 0 0 rg 0 0 9 9 re f", "0 0 72 144", Rotate=str(turn))
    pixels = sandbox.render(save(pdf(page)), 1).pixels
    assert pixels.shape[:2] == ((400, 200) if turn % 180 == 0 else (200, 400))
    assert pixels[y, x].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("ink", "stride"), [("0 0 0", 0), ("0.4 0.4 0.41", 1), ("0 0 1", 1)])
def test_a_page_without_colour_is_one_plane(sandbox: Sandbox, save: Save, ink: str, stride: int) -> None:
    path = save(pdf(pdf_page(f"{ink} rg 0 0 9 9 re f", "0 0 72 144")))
    whole, view = sandbox.render(path, 1).pixels, sandbox.render(path, 1, one_plane=True).pixels
    assert (whole.strides[2], view.strides[2]) == (1, stride)
    assert (view == whole).all()


def test_what_was_filled_into_a_form_is_drawn(sandbox: Sandbox, save: Save) -> None:
    look = "<</Type/XObject/Subtype/Form/BBox[0 0 36 36]/Length 26>>stream\n0 0 1 rg 0 0 36 36 re f \n\nendstream"
    field = "<</Type/Annot/Subtype/Widget/FT/Tx/T(a)/F 4/Rect[0 0 36 36]/AP<</N 3 0 R>>>>"
    page = pdf_page("", "0 0 72 72", Annots="[4 0 R]")
    path = save(pdf(page, extra=(look, field), catalog="/AcroForm<</Fields[4 0 R]>>"))
    assert sandbox.render(path, 1).pixels[150, 50].tolist() == [0, 0, 255]


def test_huge_pages_are_scaled_down_and_tiny_ones_up(sandbox: Sandbox, save: Save) -> None:
    huge = sandbox.render(save(pdf(pdf_page(box="0 0 14400 7200"))), 1).pixels
    assert LIMITS.render_max_pixels * 0.99 < huge.shape[0] * huge.shape[1] < LIMITS.render_max_pixels * 1.01
    assert sandbox.render(save(pdf(pdf_page(box="0 0 10 5"))), 1).pixels.shape == (64, 128, 3)
    with pytest.raises(ImageTooSmall) as error:
        sandbox.render(save(pdf(pdf_page(box="0 0 2000000000 100"))), 1)
    assert error.value.extra == {"limit": 4, "actual": 1}


def test_a_tiff_frame_comes_back_as_decoding_here_gives_it(sandbox: Sandbox, save: Save) -> None:
    data = encoded(corner(), "TIFF", save_all=True, append_images=[noise(50, 30)])
    decoded = sandbox.render(save(data), 2)
    assert (decoded.pixels == decode_image(data, 1, LIMITS).pixels).all()
    assert decoded.warnings == ("low_resolution",)


def test_a_password_opens_an_encrypted_pdf(sandbox: Sandbox, save: Save) -> None:
    path = save(encrypted_pdf("geheim"))
    with pytest.raises(EncryptedPdf, match="needs a password"):
        sandbox.count(path)
    with pytest.raises(EncryptedPdf, match="does not open"):
        sandbox.render(path, 1, "falsch")
    # A password need not be one that a PDF could have.
    for odd in ("\ud800", "a\0b", "x" * 1000, "密码"):
        with pytest.raises(EncryptedPdf, match="does not open"):
            sandbox.count(path, odd)
    assert sandbox.count(path, "geheim").pages == 1
    assert sandbox.render(path, 1, "geheim").pixels.shape == (2339, 1653, 3)
    assert sandbox.count(save(encrypted_pdf("")), None).pages == 1


def test_a_pdf_without_pages_is_empty_whatever_was_read_before(sandbox: Sandbox, save: Save) -> None:
    with pytest.raises(EncryptedPdf):
        sandbox.count(save(encrypted_pdf("geheim")))
    with pytest.raises(EmptyFile):
        sandbox.count(save(pdf()))


def test_damaged_files_are_corrupt_and_the_child_goes_on(sandbox: Sandbox, save: Save) -> None:
    before = children()
    for data in (b"%PDF-1.4\ngarbage", b"II*\0\xff\xff\xff\xff", b"II*\0"):
        with pytest.raises(CorruptFile):
            sandbox.count(save(data))
    assert children() == before


def test_a_page_that_does_not_exist_is_refused(sandbox: Sandbox, save: Save) -> None:
    for page in (0, 3):
        with pytest.raises(ValidationFailed, match=f"no page {page}; the file has 2"):
            sandbox.render(save(pdf(pdf_page(), pdf_page())), page)


def test_too_many_pages_are_refused_with_both_numbers(save: Save) -> None:
    with Sandbox(1, replace(LIMITS, max_document_pages=3)) as box:
        assert box.count(save(pdf(*[pdf_page()] * 3))).pages == 3
        with pytest.raises(TooManyPages) as error:
            box.count(save(pdf(*[pdf_page()] * 4)))
    assert error.value.extra == {"limit": 3, "actual": 4}


def test_threads_get_their_own_pages(save: Save) -> None:
    pages = [pdf_page(f"{shade / 100} g 0 0 99 99 re f", "0 0 72 72") for shade in range(100)]
    path = save(pdf(*pages))
    with Sandbox(2, LIMITS) as box, ThreadPoolExecutor(8) as pool:

        def shade_of(page: int) -> int:
            return int(box.render(path, page).pixels[9, 9, 0])

        shades = list(pool.map(shade_of, range(1, 101)))
        assert len(children()) <= 3
    assert np.abs(np.array(shades) - np.arange(100) * 2.55).max() <= 1


def test_a_page_that_takes_too_long_costs_its_own_request_only(save: Save) -> None:
    slow, quick = save(ENDLESS, "slow"), save(pdf(pdf_page()), "quick")
    with Sandbox(2, replace(LIMITS, render_timeout=5)) as box, ThreadPoolExecutor(1) as pool:
        before = children()
        hung = pool.submit(box.render, slow, 1)
        busy = new_child(before)
        assert box.render(quick, 1).pixels.shape[2] == 3
        with pytest.raises(RenderTimeout) as error:
            hung.result()
        assert error.value.extra["limit"] == 5
        assert error.value.extra["actual"] >= 5
        assert not busy.is_running()
        assert box.render(quick, 1).pixels.shape[2] == 3


def test_a_stopped_child_is_replaced(save: Save) -> None:
    path = save(pdf(pdf_page()))
    with Sandbox(1, replace(LIMITS, render_timeout=2)) as box:
        before = children()
        box.count(path)
        (child,) = [each for each in children() if each not in before]
        child.suspend()
        with pytest.raises(RenderTimeout):
            box.render(path, 1)
        assert box.count(path).pages == 1


def test_a_file_is_blamed_for_the_second_child_it_ends_and_its_neighbours_are_not(save: Save) -> None:
    slow, quick = save(ENDLESS, "slow"), save(pdf(pdf_page()), "quick")
    with Sandbox(2, LIMITS) as box, ThreadPoolExecutor(1) as pool:
        before = children()
        doomed = pool.submit(box.render, slow, 1)
        first = new_child(before)
        box.render(quick, 1)
        neighbours = [each for each in children() if each not in before and each != first]
        first.kill()
        new_child([*before, *neighbours, first]).kill()
        # Nobody but the kernel kills a process of the sandbox, when it takes too much memory.
        with pytest.raises(DecompressionBomb, match="SIGKILL") as error:
            doomed.result()
        assert error.value.extra == {"limit": LIMITS.sandbox_memory}
        assert [each for each in children() if each not in before] == neighbours
        box.render(quick, 1)


def test_a_child_that_ends_itself_by_the_clock_was_too_slow(save: Save) -> None:
    slow = save(ENDLESS)
    with Sandbox(1, LIMITS) as box, ThreadPoolExecutor(1) as pool:
        before = children()
        page = pool.submit(box.render, slow, 1)
        new_child(before).send_signal(signal.SIGPROF)
        with pytest.raises(RenderTimeout) as error:
            page.result()
    # It is not read a second time.
    assert error.value.extra["actual"] < error.value.extra["limit"]


def test_one_death_costs_a_page_nothing(save: Save) -> None:
    path = save(pdf(pdf_page()))
    with Sandbox(1, LIMITS) as box:
        before = children()
        box.count(path)
        for child in children():
            if child not in before:
                child.kill()
        assert box.count(path).pages == 1


def test_a_file_may_not_take_more_memory_than_the_limit(save: Save) -> None:
    path = save(encoded(Image.new("1", (9000, 9000)), "TIFF", compression="group4"))
    with Sandbox(1, replace(LIMITS, sandbox_memory=700 * 1024**2)) as box, pytest.raises(DecompressionBomb):
        box.render(path, 1)


def test_a_child_is_recycled(save: Save) -> None:
    path = save(pdf(pdf_page()))
    with Sandbox(1, LIMITS) as box:
        before = children()
        box.count(path)
        first = [each for each in children() if each not in before]
        for _ in range(RECYCLE_AFTER - 1):
            box.count(path)
        box.count(path)
        second = [each for each in children() if each not in before]
    assert len(second) == 1
    assert second != first


def test_close_ends_the_children_and_what_they_do(save: Save) -> None:
    path = save(ENDLESS)
    with ThreadPoolExecutor(1) as pool, closing(Sandbox(1, LIMITS)) as box:
        before = children()
        page = pool.submit(box.render, path, 1)
        child = new_child(before)
        box.close()
        with pytest.raises(Internal, match="closed"):
            page.result()
        assert not child.is_running()
        with pytest.raises(Internal, match="closed"):
            box.count(path)


def test_children_end_with_their_parent_even_while_they_draw(save: Save) -> None:
    script = (
        "import sys; from pathlib import Path; from ocrfleet.documents import Limits; from ocrfleet.sandbox import Sandbox;"
        "from ocrfleet.settings import Settings; Sandbox(1, Limits.of(Settings())).render(Path(sys.argv[1]), 1)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(save(ENDLESS))]) as parent:
        deadline = time.monotonic() + 30
        busy: list[psutil.Process] = []
        while not busy and time.monotonic() < deadline:
            busy = [each for each in psutil.Process(parent.pid).children() if each.cpu_times().user > 1.0]
            threading.Event().wait(0.05)
        assert busy
        parent.kill()
    assert psutil.wait_procs(busy, timeout=10)[1] == []
