"""Pixels of one slice as a picture: gray or color, scaled, encoded."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageFont


Rgb = npt.NDArray[np.uint8]
Font = PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont


def gray_to_rgb(values: npt.NDArray[np.generic], limits: tuple[float, float]) -> Rgb:
    """Return ``(C, rows, columns)`` as ``(rows, columns, 3)``, black to white within the limits."""
    low, high = limits
    unit = np.clip((values.astype(np.float32) - low) / (high - low), 0, 1)
    levels = (255.0 * unit).round().astype(np.uint8)
    drawn: Rgb = np.ascontiguousarray(
        np.broadcast_to(levels, (3, *levels.shape[1:])).transpose(1, 2, 0)
    )
    return drawn


def scaled(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    """Return a picture resized to ``(width, height)``."""
    if rgb.shape[1::-1] == size:
        return rgb
    return np.array(PIL.Image.fromarray(rgb).resize(size, PIL.Image.Resampling.BICUBIC))


def png_bytes(picture: PIL.Image.Image) -> bytes:
    """Return a picture as the bytes of a PNG file."""
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG")
    return encoded.getvalue()


def font_of(size: int) -> Font:
    """Return Pillow's own font, which every machine has."""
    return PIL.ImageFont.load_default(size)
