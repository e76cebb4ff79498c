"""Spotting from the pixels of a page to boxes on those pixels, by a tiny model that has learnt a few pages by heart."""

# pyright: basic, reportMissingImports=false

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MAX_PIXELS, Running
from PIL import Image
from test_engine import everything

from ocrfleet.catalogue import TASKS
from ocrfleet.settings import Settings
from worker.engines.base import PageRequest, Pixels
from worker.engines.scaling import image_of

WIDTH, HEIGHT = 1000, 800
PAGES: list[dict[str, tuple[int, int, int, int]]] = [
    {"Total": (100, 80, 420, 160), "12 EUR": (520, 80, 880, 160)},
    {"Paid (in part)": (60, 480, 600, 560), "No 7": (700, 640, 900, 720)},
    {"合计": (300, 240, 760, 400), "Dear Sir": (40, 600, 280, 760)},
]
"""By page: where each text stands, in pixels; in place of letters there are black boxes."""
STEPS = 400
SURE = 0.005
"""The loss at which every token of every answer is far ahead of all others."""


def drawn(lines: dict[str, tuple[int, int, int, int]]) -> Pixels:
    pixels = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    for x0, y0, x1, y1 in lines.values():
        pixels[y0:y1, x0:x1] = 0
    return pixels


def answer(lines: dict[str, tuple[int, int, int, int]]) -> str:
    """As HunyuanOCR writes it: a thousand steps on each side, nothing between one line and the next."""
    return "".join(
        f"{text}({x0 * 1000 // WIDTH},{y0 * 1000 // HEIGHT}),({x1 * 1000 // WIDTH},{y1 * 1000 // HEIGHT})"
        for text, (x0, y0, x1, y1) in lines.items()
    )


def taught(folder: Path) -> Path:
    """The tiny checkpoint, trained until it writes the answer to each page."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(folder)
    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype="float32")
    content = [{"type": "image"}, {"type": "text", "text": TASKS["spotting"].prompt_zh}]
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": content}]
    prompt = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    lessons = []
    for lines in PAGES:
        image = image_of(drawn(lines), MAX_PIXELS).convert("RGB")
        asked = processor(text=[prompt], images=[image], return_tensors="pt")["input_ids"].shape[1]
        lesson = processor(text=[f"{prompt}{answer(lines)}<eos>"], images=[image], return_tensors="pt")
        labels = lesson["input_ids"].clone()
        labels[:, :asked] = -100
        lessons.append({**lesson, "labels": labels})
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    worst = float("inf")
    for _ in range(STEPS):
        losses = [model(**lesson).loss for lesson in lessons]
        worst = max(loss.item() for loss in losses)
        if worst < SURE:
            break
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    assert worst < SURE, f"it has not learnt its pages: {worst}"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def spotter(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> Iterator[Running]:
    from bench.checkpoint import write

    folder = taught(write(tmp_path_factory.mktemp("spotter")))
    # Its pages alone mean something to it: those of the self-test are all one to it.
    running = Running(settings.model_copy(update={"model": str(folder), "self_test": False}))
    try:
        running.start()
        yield running
    finally:
        running.stop()


def test_boxes_land_on_the_pixels_that_the_model_saw(spotter: Running) -> None:
    requests = [PageRequest(f"spot-{number}", "spotting", drawn(lines)) for number, lines in enumerate(PAGES)]
    results = spotter.run(everything(spotter, *requests))
    for request, result, lines in zip(requests, results, PAGES, strict=True):
        assert not isinstance(result, Exception), result
        assert {region.text: region.box for region in result.regions} == lines
        seen = Image.fromarray(request.pixels).convert("L")
        for region in result.regions:
            assert seen.crop(region.box).getextrema() == (0, 0), "all of the box is black"
            x0, y0, x1, y1 = region.box
            around = seen.crop((x0 - 1, y0 - 1, x1 + 1, y1 + 1)).histogram()
            assert around[255] == 2 * (x1 - x0 + y1 - y0) + 4, "and white all round it"
