"""Reads one page with RapidOCR: sets it upright, tiles it if it must, and gives its lines in reading order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from rapidocr import RapidOCR
from rapidocr.main import RapidOCRError
from rapidocr.utils.process_img import map_boxes_to_original

from worker.engines.base import Pixels
from worker.engines.lines import Quads, reading_order
from worker.engines.tiles import Tile, distinct, pad, tiles, whole_lines

_MAX_SIDE = 2000
PARAMS: dict[str, Any] = {
    "Global.log_level": "error",
    # The classifier turns upright lines of dense pages upside down; the reader looks at the page as a whole.
    "Global.use_cls": False,
    # One line at a time: a batch is padded to its longest line.
    "Rec.rec_batch_num": 1,
    "Global.max_side_len": _MAX_SIDE,
    "Det.limit_type": "max",
    # 960 loses lines of full pages.
    "Det.limit_side_len": 1600,
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
}
_MIN_SCORE = 0.5
"""Lines read worse than this are noise."""
_SAMPLE = 5
_SAMPLE_ASPECT = 8
"""Lines of about this many heights tell most about the orientation for their cost."""
_SURE = 0.85
"""Mean score of a sample that stands upright (measured: 0.95 and more; upside down 0.6 to 0.75)."""
_BETTER = 0.1
_LEGIBLE = 0.75
_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True, slots=True)
class Reading:
    """The lines of a page; quads in pixels of the upright page of this width and height."""

    quads: Quads
    texts: list[str]
    scores: list[float]
    rows: list[list[int]]
    rotation: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Detection:
    quads: Quads
    crops: list[Pixels]


_Lines = tuple[list[str], list[float]]


class PageReader:
    """One RapidOCR instance; single-threaded, and not to be shared between threads."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)
        self._ocr: Any = RapidOCR(params=PARAMS)
        # The models are loaded by their first use.
        blank = np.full((64, 256, 3), 255, np.uint8)
        self._detect(blank)
        self._recognise([blank])

    def read(self, pixels: Pixels) -> Reading:
        """Read a BGR page."""
        parts = tiles(pixels)
        probe = self._detect(_cut(pixels, parts[len(parts) // 2]))
        turn, sample = self._orientation(probe)
        if turn == 0 and len(parts) == 1:
            quads, lines = probe.quads, self._complete(probe, sample)
        else:
            pixels = _turned(pixels, turn)
            quads, lines = self._read_tiles(pixels)
        return _reading(quads, lines, turn, pixels)

    def _read_tiles(self, pixels: Pixels) -> tuple[Quads, _Lines]:
        quads: list[Quads] = []
        texts: list[str] = []
        scores: list[float] = []
        parts = tiles(pixels)
        for tile in parts:
            found = self._detect(_cut(pixels, tile))
            whole = whole_lines(found.quads, tile, pixels.shape[0])
            quads.append(found.quads[whole] + np.array(tile[:2]))
            tile_texts, tile_scores = self._recognise([found.crops[i] for i in whole])
            texts += tile_texts
            scores += tile_scores
        everything = np.concatenate(quads)
        kept = distinct(everything, scores) if len(parts) > 1 else range(len(texts))
        return everything[list(kept)], ([texts[i] for i in kept], [scores[i] for i in kept])

    def _detect(self, pixels: Pixels) -> _Detection:
        """Lines in pixels of the page given, each cut out; tall ones are turned counterclockwise by RapidOCR."""
        shrunk, factor = _shrunk(pixels)
        padded, offset = pad(shrunk)
        scaled, record = self._ocr.preprocess_img(padded)
        try:
            crops, found = self._ocr.detect_and_crop(scaled, record)
        except RapidOCRError:  # its word for a page without text
            return _Detection(np.empty((0, 4, 2)), [])
        boxes = map_boxes_to_original(found.boxes, record, *padded.shape[:2])
        limit = np.array([pixels.shape[1], pixels.shape[0]])
        quads = np.clip((boxes.astype(np.float64) - np.array(offset)) * factor, 0, limit)
        return _Detection(quads, crops)

    def _recognise(self, crops: Sequence[Pixels]) -> _Lines:
        if not crops:
            return [], []
        result = self._ocr.recognize_txt(list(crops))
        return list(result.txts), [float(score) for score in result.scores]

    def _orientation(self, found: _Detection) -> tuple[int, dict[int, tuple[str, float]]]:
        """Degrees clockwise that set the page upright, and what was read on the way, by line.

        A sample is read first; only when it reads badly or stands sideways is it read upside down as well.
        """
        chosen = _sample(found.crops)
        texts, scores = self._recognise([found.crops[i] for i in chosen])
        sample = dict(zip(chosen, zip(texts, scores, strict=True), strict=True))
        sideways = _sideways(found.quads)
        mean = float(np.mean(scores)) if scores else 1.0
        if mean >= _SURE:
            return (270 if sideways else 0), sample
        _, scores = self._recognise([_turned(found.crops[i], 180) for i in chosen])
        turned = float(np.mean(scores))
        if sideways and max(mean, turned) >= _LEGIBLE:
            return (90 if turned > mean else 270), sample
        return (180 if not sideways and turned > mean + _BETTER else 0), sample

    def _complete(self, found: _Detection, sample: dict[int, tuple[str, float]]) -> _Lines:
        rest = [i for i in range(len(found.crops)) if i not in sample]
        texts, scores = self._recognise([found.crops[i] for i in rest])
        lines = sample | dict(zip(rest, zip(texts, scores, strict=True), strict=True))
        return [lines[i][0] for i in range(len(lines))], [lines[i][1] for i in range(len(lines))]


def _sample(crops: Sequence[Pixels]) -> list[int]:
    distance = [abs(crop.shape[1] / crop.shape[0] - _SAMPLE_ASPECT) for crop in crops]
    return sorted(range(len(crops)), key=distance.__getitem__)[:_SAMPLE]


def _sideways(quads: Quads) -> bool:
    """Whether most of the text, by length, runs up or down the page."""
    across = np.linalg.norm(quads[:, 1] - quads[:, 0], axis=1)
    down = np.linalg.norm(quads[:, 3] - quads[:, 0], axis=1)
    length = np.maximum(across, down)
    return bool(length[down > 1.5 * across].sum() > length.sum() / 2)


def _shrunk(pixels: Pixels) -> tuple[Pixels, float]:
    """RapidOCR scales pages down to `_MAX_SIDE` by two by two pixels; thin strokes of 600 dpi fall through."""
    factor = max(pixels.shape[:2]) / _MAX_SIDE
    if factor <= 2:
        return pixels, 1.0
    size = round(pixels.shape[1] / factor), round(pixels.shape[0] / factor)
    return cast("Pixels", cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)), factor


def _cut(pixels: Pixels, tile: Tile) -> Pixels:
    x0, y0, x1, y1 = tile
    return np.ascontiguousarray(pixels[y0:y1, x0:x1])


def _turned(pixels: Pixels, degrees: int) -> Pixels:
    return cast("Pixels", cv2.rotate(pixels, _TURNS[degrees])) if degrees else pixels


def _reading(quads: Quads, lines: _Lines, rotation: int, pixels: Pixels) -> Reading:
    texts, scores = lines
    kept = [i for i, text in enumerate(texts) if text.strip() and scores[i] >= _MIN_SCORE]
    quads = quads[kept]
    height, width = pixels.shape[:2]
    return Reading(
        quads,
        [texts[i].strip() for i in kept],
        [scores[i] for i in kept],
        reading_order(quads),
        rotation,
        width,
        height,
    )
