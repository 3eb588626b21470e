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
"""Strokes are thinner, relative to the longer side."""

HEIGHT, WIDTH = 0.08, 0.3
"""Words, whose letters may touch, and callipers are smaller, relative to the longer side."""


def marks_mask(img: Tensor, *, brightness: float, contrast: float, chroma: float) -> Tensor:
    """Find letters and callipers.

    Sizes are relative to the longer side. White marks, on the luminance:

    1. at least ``brightness`` times the image's largest value, and ``contrast`` above its opening
       by a square of 1.2 %, 7 pixels at least: bright and thin;
    2. in components at most 8 % high and 30 % wide, of five pixels at least, whose ring of two
       pixels (0.4 %) is darker by ``contrast`` on average: strokes end at once, echoes fade.

    Colored marks: channels that differ by more than ``chroma``, but not after an opening by a
    square of 2.4 %, which flow in color outlasts; none where more than half of the image is
    colored.

    Both are widened by a pixel (0.2 %), which takes the smooth edge of letters along.

    Args:
        img: ``(C, rows, columns)`` in 0..1.
        brightness: Least value of a white mark, relative to the image's largest.
        contrast: How much brighter than its surroundings a white mark is, in 0..1.
        chroma: Least ``max - min`` of the channels of a colored mark.

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
