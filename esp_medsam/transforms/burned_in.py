"""Find text and calipers burned into ultrasound images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import find_objects  # type: ignore[import-untyped]  # ships no types
from skimage.measure import label
from torch import Tensor

from esp_medsam.transforms.inpainting import dilated
from esp_medsam.transforms.line_morphology import Bytes, square_opening
from esp_medsam.transforms.slices import luminance


STROKE = 0.012
"""Largest thickness of a stroke, relative to the longer side."""

HEIGHT, WIDTH = 0.08, 0.3
"""Limits on words, whose letters may touch, and callipers, relative to the longer side."""


def marks_mask(img: Tensor, *, brightness: float, contrast: float, chroma: float) -> Tensor:
    """Find letters and callipers.

    Sizes are relative to the longer side. White marks are found on the luminance:

    1. Candidates are pixels of at least ``brightness`` times the image's largest value that exceed
       an opening by a square of 1.2 %, at least 7 pixels, by ``contrast``: bright and thin.
    2. A mark is a component at most 8 % high and 30 % wide, of at least five pixels, whose ring of
       two pixels (0.4 %) is darker by ``contrast`` on average: strokes end sharply, echoes fade.

    In colored marks, the channels differ by more than ``chroma``, but no longer do so after an
    opening by a square of 2.4 %, which color flow survives. There are none if more than half of the
    image is colored.

    Both masks are widened by a pixel (0.2 %), which includes the smooth edge of letters.

    Args:
        img: ``(C, rows, columns)`` in 0..1.
        brightness: Smallest value of a white mark, relative to the image's largest.
        contrast: How much brighter than its surroundings a white mark is, in 0..1.
        chroma: Smallest ``max - min`` of the channels of a colored mark.

    Returns:
        ``(rows, columns)`` bool, on the image's device.
    """
    levels = (luminance(img).clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).numpy(force=True)
    longest = max(levels.shape)
    side = max(7, round(STROKE * longest) | 1)
    hat = levels - square_opening(levels, side)
    found = (levels >= brightness * levels.max()) & (hat >= contrast * 255.0)
    if found.any():
        found = _sharp(found, levels, contrast * 255.0)
    if len(img) == 3:
        colored = (img.amax(0) - img.amin(0) > chroma).numpy(force=True)
        if 0 < 2 * np.count_nonzero(colored) < colored.size:
            found |= colored & (square_opening(colored.astype(np.uint8), 2 * side - 1) == 0)
    mask = torch.from_numpy(found).to(img.device)
    return dilated(mask, max(1, round(0.002 * longest))) if found.any() else mask


def _sharp(mask: npt.NDArray[np.bool_], levels: Bytes, contrast: float) -> npt.NDArray[np.bool_]:
    """Keep the small components that stand out from their ring."""
    longest = max(mask.shape)
    ring = max(2, round(0.004 * longest))
    components = label(mask, connectivity=2)  # type: ignore[no-untyped-call]
    kept = np.zeros(components.max() + 1, bool)
    for number, box in enumerate(find_objects(components), start=1):
        height, width = (side.stop - side.start for side in box)
        if height > HEIGHT * longest or width > WIDTH * longest:
            continue
        wider = tuple(slice(max(0, s.start - ring), s.stop + ring) for s in box)
        inside = components[wider] == number
        if np.count_nonzero(inside) < 5:
            continue
        around = dilated(torch.from_numpy(inside), ring).numpy() & (components[wider] == 0)
        values = levels[wider]
        kept[number] = bool(
            around.any() and values[inside].mean() - values[around].mean() >= contrast
        )
    sharp: npt.NDArray[np.bool_] = kept[components]
    return sharp
