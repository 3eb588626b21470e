"""Score how similar an image is to the training images of its modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from esp_medsam.errors import CheckpointError


STRIDE = 8
"""Stride of the features used: they capture textures and edges rather than meaning."""


class Plausibility(NamedTuple):
    """What images of each modality look like to the encoder.

    Attributes:
        projection: Matrix ``(F, K)`` from features to the directions in which kinds of images
            differ, scaled so that images of one kind spread equally in each direction.
        centers: By modality name, the centers of the modality's kinds of images, ``(N, K)``.
        limit: Squared distance from the nearest center that few images of the modality exceed.
    """

    projection: Tensor
    centers: Mapping[str, Tensor]
    limit: float

    def scores(self, features: Tensor, modality: str) -> Tensor:
        """Return how far slices are from the known images of a modality, ``(B,)``; 1 is the limit.

        Args:
            features: As :func:`features_of` returns them, ``(B, F)``.
            modality: Name of the modality that the slices are said to have.

        Raises:
            KeyError: If nothing is known of the modality.
            CheckpointError: If the number of features differs from the number measured.
        """
        if features.shape[1] != len(self.projection):
            msg = (
                f"calibration must be of {features.shape[1]} features, as the network has; got "
                f"{len(self.projection)}. Run esp-medsam calibrate again."
            )
            raise CheckpointError(msg)
        projected = features @ self.projection.to(features)
        centers = self.centers[modality].to(features)
        return torch.cdist(projected, centers).square().amin(1) / self.limit


def features_of(encoded: Any, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Return mean and standard deviation of the encoder's features per slice, ``(B, F)`` float32.

    Args:
        encoded: Output of the network's ``encode``, with the features at :data:`STRIDE` last in its
            ``pyramid``.
        sizes: ``(H, W)`` that each slice occupies in the input; the padding does not count.
    """
    rows = []
    for features, (height, width) in zip(encoded.pyramid[-1].float(), sizes, strict=True):
        inside = features[:, : -(-height // STRIDE), : -(-width // STRIDE)].flatten(1)
        rows.append(torch.cat([inside.mean(1), inside.std(1, correction=0)]))
    return torch.stack(rows)


def implausible(modality: str, score: float) -> str:
    """Return the warning for the user about an image beyond the limit."""
    return (
        f"The image looks unlike the {modality} images that the weights were trained on "
        f"(plausibility {score:.1f}, limit 1): check the modality and the body part, and look "
        "at the mask."
    )
