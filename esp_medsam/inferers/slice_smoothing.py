"""Smooth the probabilities of a volume across its slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.settings import MOST_SMOOTHING


_REACH = 3.0
"""Number of standard deviations beyond which a neighbor does not count."""


def slice_smoothing_of(value: float) -> float:
    """Return a standard deviation in mm after checking its range.

    Raises:
        OptionError: If it is negative, or more than ``MOST_SMOOTHING``.
    """
    if not 0.0 <= value <= MOST_SMOOTHING:  # NaN too
        msg = f"slice_smoothing must be 0 (off) to {MOST_SMOOTHING:g} mm; got {value}."
        raise OptionError(msg)
    return float(value)


def smooth_across_slices(
    probability: Tensor, axis: int, positions: Sequence[float] | npt.NDArray[np.float64], mm: float
) -> None:
    """Replace each slice by the weighted mean of itself and its neighbors, in place.

    Weights are a Gaussian of the distance. At the ends of a stack, and beside a gap, the neighbors
    that exist share the whole weight. Originals of neighbors that were already replaced are kept
    as long as they are needed.

    Args:
        probability: uint8 ``(T, *spatial)``, 255 times the probability.
        axis: The spatial axis along which the slices lie.
        positions: Position of each slice, in mm.
        mm: Standard deviation of the Gaussian; 0 changes nothing.
    """
    if mm == 0:
        return
    places = np.asarray(positions)
    slices = probability.unbind(axis + 1)
    originals: dict[int, Tensor] = {}
    for index, one in enumerate(slices):
        distance = np.abs(places - places[index])
        near = np.flatnonzero(distance <= _REACH * mm)
        weights = np.exp(-0.5 * (distance[near] / mm) ** 2)
        total = torch.zeros(one.shape)
        for place, weight in zip(near.tolist(), weights / weights.sum(), strict=True):
            total.add_(originals.get(place, slices[place]), alpha=float(weight))
        originals[index] = one.clone()
        one.copy_(total.round_())
        later = places[index + 1 :, None] - places[list(originals)]
        wanted = (np.abs(later) <= _REACH * mm).any(axis=0)
        originals = {p: v for (p, v), keep in zip(originals.items(), wanted, strict=True) if keep}
