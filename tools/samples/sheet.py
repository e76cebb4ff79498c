"""Paper to draw on, measured in millimetres, and the fonts for it."""

from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

SIMPLIFIED = 2
"""The face of the Noto CJK collections that has the simplified Chinese forms."""


class Fonts:
    """Fonts by file name, found under one folder."""

    def __init__(self, folder: Path) -> None:
        self._found = {path.name: path for path in sorted(folder.rglob("*.tt?"))}

    def path(self, name: str) -> Path:
        if name not in self._found:
            msg = f"{name} not found; tools/samples/README.md names the packages, --fonts the folder"
            raise SystemExit(msg)
        return self._found[name]

    @cache  # noqa: B019 (one instance lives as long as the program)
    def load(self, name: str, pixels: int) -> ImageFont.FreeTypeFont:
        index = SIMPLIFIED if name.endswith(".ttc") else 0
        return ImageFont.truetype(self.path(name), pixels, index=index)


class Sheet:
    """A white page; positions and sizes in mm, type in points."""

    def __init__(self, fonts: Fonts, width: float, height: float, dpi: int) -> None:
        self._fonts = fonts
        self._dpi = dpi
        self.image = Image.new("L", (self._px(width), self._px(height)), 255)
        self._draw = ImageDraw.Draw(self.image)

    def _px(self, mm: float) -> int:
        return round(mm / 25.4 * self._dpi)

    def text(
        self, x: float, y: float, text: str, font: str, points: float, align: Literal["l", "m", "r"] = "l"
    ) -> None:
        """One line, its top at `y`; `align` says what `x` is: its left end, middle or right end."""
        face = self._fonts.load(font, round(points / 72 * self._dpi))
        self._draw.text((self._px(x), self._px(y)), text, font=face, fill=20, anchor=f"{align}a")

    def line(self, x0: float, y0: float, x1: float, y1: float, weight: float = 0.3) -> None:
        ends = (self._px(x0), self._px(y0), self._px(x1), self._px(y1))
        self._draw.line(ends, fill=60, width=max(1, self._px(weight)))

    def box(self, x0: float, y0: float, x1: float, y1: float, *, fill: int | None = None) -> None:
        edges = (self._px(x0), self._px(y0), self._px(x1), self._px(y1))
        self._draw.rectangle(edges, outline=60, fill=fill, width=max(1, self._px(0.3)))
