"""Find dark hairs on skin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.ndimage import (  # type: ignore[import-untyped]  # ships no types
    find_objects,
    gaussian_filter,
    uniform_filter,
)
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label
from torch import Tensor

from esp_medsam.transforms.inpainting import dilated
from esp_medsam.transforms.line_morphology import (
    Bytes,
    line_closings,
    line_openings,
    square_dilation,
)
from esp_medsam.transforms.slices import luminance, shrink


GRID = 640
"""Longest side of the grid on which hairs are sought: finer grids show the skin's own lines."""

WIDTH = 0.022
"""Largest width of a hair or a pair of hairs, relative to the longer side."""

RUN = 0.05
"""Straight run of a hair, relative to the longer side: meshes of a pigment network have less."""

COHERENCE = 0.55
"""Smallest coherence along a hair: in ISIC 2017 most hairs exceed it, pigment networks do not."""


def hair_mask(img: Tensor, *, threshold: float, length: float) -> Tensor:
    """Find dark hairs.

    The search uses the luminance ``Y``, at most 640 pixels a side; sizes are relative to the longer
    side. It has five steps:

    1. The black-hat ``B`` is the largest closing of Y by lines of 2.2 % in 8 directions, less Y. It
       responds to everything dark and narrow.
    2. The straight part of B is its largest opening by lines of 5 %, at most B.
    3. Pixels above ``threshold`` times the third quartile of Y are kept, with all that is connected
       down to half of that, in components at least ``length`` long and slender: with an area of at
       most a quarter of their length squared.
    4. Components are kept if their mean coherence is at least 0.55. The coherence is
       ``(a - b) / (a + b)`` for eigenvalues a and b of the structure tensor (gradients at 1 pixel,
       averaged over a square of 3.6 %).
    5. The mask is widened by a pixel of that grid. Images under 16 pixels a side have no hairs.

    Lines of a ruler or a pen are found, too.

    Args:
        img: ``(C, rows, columns)`` in 0..1.
        threshold: How much darker a hair is than what is beside it, relative to the skin.
        length: Smallest length, relative to the longer side.

    Returns:
        ``(rows, columns)`` bool, on the image's device.

    Reference:
        Lee et al., "DullRazor", doi:10.1016/S0010-4825(97)00020-6 (closings by lines); Kiani and
        Sharafat, "E-shaver", doi:10.1016/j.compbiomed.2011.01.003 (directions, only dark hairs).
    """
    light = shrink(luminance(img)[None], GRID)[0]
    levels = (light.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).numpy(force=True)
    high = threshold * float(np.percentile(levels, 75.0))
    straight = _straight(_black_hat(levels))
    found = np.zeros(levels.shape, bool)
    if straight.max() > high > 0.0 and min(levels.shape) >= 16:
        found = apply_hysteresis_threshold(straight, high / 2.0, high)  # type: ignore[no-untyped-call]
        found = _hairs(found, levels, length * max(levels.shape))
    mask = dilated(torch.from_numpy(found).to(img.device), 1)
    if mask.shape == img.shape[-2:]:
        return mask
    size = (int(img.shape[-2]), int(img.shape[-1]))
    return F.interpolate(mask[None, None].to(torch.uint8), size=size)[0, 0].bool()


def _black_hat(levels: Bytes) -> Bytes:
    closed = levels
    for closing in line_closings(levels, max(5, round(WIDTH * max(levels.shape)))):
        closed = np.maximum(closed, closing)
    return closed - levels


def _straight(hat: Bytes) -> Bytes:
    length = max(9, round(RUN * max(hat.shape)))
    # A hair and the nearest line differ by up to 13 degrees, and the line must still fit into it.
    wide = square_dilation(hat, 3)
    straight = np.zeros_like(hat)
    for opening in line_openings(wide, length):
        np.maximum(straight, opening, out=straight)
    return np.minimum(straight, hat)


def _hairs(mask: npt.NDArray[np.bool_], levels: Bytes, length: float) -> npt.NDArray[np.bool_]:
    """Keep the components that are long, slender and coherent."""
    components = label(mask, connectivity=2)  # type: ignore[no-untyped-call]
    kept = np.zeros(components.max() + 1, bool)
    coherence = _coherence(levels)
    for number, box in enumerate(find_objects(components), start=1):
        extent = np.hypot(*(side.stop - side.start for side in box))
        if extent >= length:
            inside = components[box] == number
            slender = np.count_nonzero(inside) <= 0.25 * extent**2
            kept[number] = slender and coherence[box][inside].mean() >= COHERENCE
    hairs: npt.NDArray[np.bool_] = kept[components]
    return hairs


def _coherence(levels: Bytes) -> npt.NDArray[np.float32]:
    """Return 1 where all gradients around a pixel share one direction, 0 where they share none."""
    smooth = gaussian_filter(levels.astype(np.float32), 1.0)
    down, right = np.gradient(smooth)
    side = 2 * round(0.018 * max(levels.shape)) + 1
    rows, mixed, columns = (
        uniform_filter(product, side) for product in (down * down, down * right, right * right)
    )
    difference = np.sqrt((rows - columns) ** 2 + 4.0 * mixed**2)
    coherence: npt.NDArray[np.float32] = difference / (rows + columns + 1e-6)
    return coherence
