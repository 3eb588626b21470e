"""The measures of the released evaluation script, for comparison with its published numbers.

Images are stretched to 1024 x 1024 pixels, and masks are compared at that size. Every image counts,
even if it lacks the target. There is no clean-up and no spacing: distances are in grid pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.image import FOREGROUND
from esp_medsam.workflows.case_metrics import distances


SIDE = 1024
"""Pixels along each side of the grid on which masks are compared."""

SMOOTH = 1.0
"""Added to the numerator and the denominator of Dice and IoU."""

UNIT = "px of 1024 x 1024"


class ReleasedMeasures(NamedTuple):
    """Measures of the released script for one image.

    Attributes:
        dice: ``(2 |A & B| + 1) / (|A| + |B| + 1)``.
        iou: ``(|A & B| + 1) / (|A | B| + 1)``.
        precision: Fraction of the predicted pixels that are true; None if nothing was predicted.
        recall: Fraction of the true pixels that were predicted; None if nothing is true.
        hd: Largest distance between the contours, in pixels of the grid; None if a mask is
            empty, which leaves the image out of the mean.
        found: Whether anything was predicted.
        present: Whether the target is present.
    """

    dice: float
    iou: float
    precision: float | None
    recall: float | None
    hd: float | None
    found: bool
    present: bool


def released_measures(
    probability: Tensor, truth: Tensor, labeled: Tensor | None = None
) -> ReleasedMeasures:
    """Return the measures of one target in a 2D image.

    Args:
        probability: uint8 ``(H, W)``, 255 times the probability; an axis of one voxel is dropped.
        truth: bool, of the same shape.
        labeled: bool, True where the truth is known; None means everywhere.

    Raises:
        OptionError: If the input is a volume: the released script scores only 2D images.
    """
    picture = probability.squeeze()
    if picture.ndim != 2:
        msg = (
            "protocol must be native for volumes, which the released script does not score; "
            f"got a volume of {tuple(probability.shape)}. Leave volumes out, or pass "
            "`protocol` native."
        )
        raise OptionError(msg)
    found = _stretched(picture.float(), "bilinear") >= FOREGROUND
    true = _stretched(truth.reshape(picture.shape).float(), "nearest-exact") > 0
    if labeled is not None:
        known = _stretched(labeled.reshape(picture.shape).float(), "nearest-exact") > 0
        found, true = found & known, true & known
    both, n_found, n_true = (int(mask.sum()) for mask in (found & true, found, true))
    return ReleasedMeasures(
        (2 * both + SMOOTH) / (n_found + n_true + SMOOTH),
        (both + SMOOTH) / (n_found + n_true - both + SMOOTH),
        both / n_found if n_found else None,
        both / n_true if n_true else None,
        distances(found, true, spacing=(1.0, 1.0), tolerance=0.0).hd,
        n_found > 0,
        n_true > 0,
    )


def _stretched(picture: Tensor, mode: str) -> Tensor:
    corners = False if mode == "bilinear" else None
    return F.interpolate(picture[None, None], (SIDE, SIDE), mode=mode, align_corners=corners)[0, 0]
