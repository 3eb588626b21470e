"""How unsure a network is of a result, from its own probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from esp_medsam.image import FOREGROUND


def uncertainty_of(probability: Tensor) -> float:
    """Return how unsure a network is of its masks, from 0 to 1, as the mean over targets.

    Of a mask, it is 1 minus the Dice to expect if the probabilities were true and each voxel drawn
    by itself, ``2 sum(p in mask) / (size of mask + sum(p))``; of an empty mask, the highest
    probability, since a target that is almost found anywhere may be there.

    Args:
        probability: uint8 ``(T, *spatial)``, 255 times the probability.

    Raises:
        ValueError: If there is no target.
    """
    if not len(probability):
        msg = "probability must hold at least one target; it holds none."
        raise ValueError(msg)
    return sum(map(_of_target, probability)) / len(probability)


def _of_target(probability: Tensor) -> float:
    counts = torch.zeros(256, dtype=torch.float64)
    for part in probability:  # bincount widens what it counts
        counts += torch.bincount(part.flatten(), minlength=256)
    sums = counts * torch.arange(256) / 255
    size = float(counts[FOREGROUND:].sum())
    if not size:
        return int(counts.nonzero().max()) / 255
    return 1 - 2 * float(sums[FOREGROUND:].sum()) / (size + float(sums.sum()))
