"""Test-time augmentation: average the network output over mirrored views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from esp_medsam.inferers.network_output import NetworkOutput
from esp_medsam.inferers.preparation import View


Axes = tuple[int, ...]
"""Axes of ``(..., rows, columns)`` that a view is mirrored along: -2, -1, or both."""


def mirrored(views: Iterable[View], axes: Axes) -> list[View]:
    """Return mirrored views; their boxes in the slices remain those of the originals."""
    return [view._replace(pixels=view.pixels.flip(axes)) for view in views]


def mean_over_mirrors(
    output: NetworkOutput,
    outputs: Iterable[NetworkOutput],
    mirrors: Sequence[Axes],
    shapes: Sequence[tuple[int, int]],
) -> tuple[list[Tensor], Tensor]:
    """Return the mean probabilities and presence logits of slices and their mirrored views.

    Args:
        output: Network output for the slices.
        outputs: Network output for their mirrored views, taken one by one, never held together.
        mirrors: How each of these is mirrored; if empty, the slices' output stays bit for bit.
        shapes: Rows and columns of each slice.

    Returns:
        For each slice, ``(T, rows, columns)`` uint8 on the CPU, 255 times the probability, rounded
        to nearest; and presence logits, ``(B, T)`` or ``(B, 0)``.
    """
    probabilities, presence_logits = output.probabilities(shapes), output.presence_logits
    if not mirrors:
        return probabilities, presence_logits
    sums = [one.to(torch.int16) for one in probabilities]
    for other, axes in zip(outputs, mirrors, strict=True):
        for total, one in zip(sums, other.probabilities(shapes), strict=True):
            total += one.flip(axes)
        presence_logits = presence_logits + other.presence_logits
    count = len(mirrors) + 1
    means = [((2 * total + count) // (2 * count)).to(torch.uint8) for total in sums]
    return means, presence_logits / count
