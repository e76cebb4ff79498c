"""Small images and documents whose pixels tell them apart, and what the null engine says of them."""

import hashlib
import io

import numpy as np
from PIL import Image


def noise(seed: int, size: tuple[int, int] = (120, 160)) -> Image.Image:
    """Coarse noise: small as a file, and no two seeds alike."""
    width, height = size
    cells = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(cells.repeat(8, axis=0).repeat(8, axis=1))


def encoded(image: Image.Image, kind: str = "PNG", *more: Image.Image) -> bytes:
    """The image as a file; with more of them, one of several pages."""
    out = io.BytesIO()
    if more:
        image.save(out, kind, save_all=True, append_images=list(more))
    else:
        image.save(out, kind)
    return out.getvalue()


def pixel_hash(data: bytes, frame: int = 0) -> str:
    """SHA-256 of the pixels, which is what the null engine reads on the page."""
    image = Image.open(io.BytesIO(data))
    image.seek(frame)
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()
