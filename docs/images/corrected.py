"""The pictures of the tutorial on annotation: a wrong spot in a mask, and the mask without it.

    python docs/images/corrected.py

Writes ``corrected.jpg`` beside this file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import skimage
from skimage.segmentation import find_boundaries

import esp_medsam


SHOWN = np.s_[520:880, 500:960]
"""Rows and columns that are shown."""

SPOT = np.s_[660:760, 670:790]
"""Rows and columns of the fovea, as the tutorial clears them."""

GREEN = (60, 220, 120)


def drawn(picture: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> PIL.Image.Image:
    """Return the shown part of a picture with the outline of a mask."""
    canvas = picture.copy()
    canvas[find_boundaries(mask, mode="outer")] = GREEN
    return PIL.Image.fromarray(canvas[SHOWN])


def main() -> None:
    """Segment, correct, and write the pictures side by side."""
    source = Path(skimage.__path__[0]) / "data" / "retina.jpg"
    picture = np.asarray(PIL.Image.open(source).convert("RGB"))
    mask = esp_medsam.segment(source, modality="fundus", device="cpu").labelmap
    corrected = mask.copy()
    corrected[SPOT] = 0
    panels = [drawn(picture, mask), drawn(picture, corrected)]
    width, height = panels[0].size
    sheet = PIL.Image.new("RGB", (2 * width + 8, height), "white")
    sheet.paste(panels[0], (0, 0))
    sheet.paste(panels[1], (width + 8, 0))
    sheet.save(Path(__file__).with_name("corrected.jpg"), quality=88)


if __name__ == "__main__":
    main()
