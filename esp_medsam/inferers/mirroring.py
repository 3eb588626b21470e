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
    """Return views mirrored; where they lie in their slices stays that of the originals."""
    return [view._replace(pixels=view.pixels.flip(axes)) for view in views]


def mean_over_mirrors(
    output: NetworkOutput,
    outputs: Iterable[NetworkOutput],
    mirrors: Sequence[Axes],
    shapes: Sequence[tuple[int, int]],
) -> tuple[list[Tensor], Tensor]:
    """Return the mean probabilities and presence logits of slices and of their mirrored views.

    Args:
        output: What the network says of the slices.
        outputs: What it says of their mirrored views; taken one by one, never held together.
        mirrors: How each of these is mirrored; none leave the slices' own bits.
        shapes: Rows and columns of each slice.

    Returns:
        Of each slice ``(T, rows, columns)`` uint8 on the CPU, 255 times the probability, to
        nearest; presence logits, ``(B, T)`` or ``(B, 0)``.
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
