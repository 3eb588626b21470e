"""Detect a network that gives every pixel the same output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from esp_medsam.errors import NetworkOutputError


CONSTANT = "The image is constant: all of its pixels are the same."
"""Warning about an image that contains nothing to find."""


class LogitRange:
    """Lowest and highest logit of each target, over all slices of an image."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = targets
        self._lowest = torch.full((len(targets),), torch.inf)
        self._highest = -self._lowest

    def add(self, logits: Tensor) -> None:
        """Update the range with the logits of a slice's content, ``(T, h, w)``, without padding."""
        lowest, highest = logits.flatten(1).aminmax(dim=1)
        self._lowest = torch.minimum(self._lowest, lowest.cpu())
        self._highest = torch.maximum(self._highest, highest.cpu())

    def check(self, path: str) -> None:
        """Refuse a target whose logits are identical for all pixels, although the pixels differ.

        Raises:
            NetworkOutputError: If there is such a target.
        """
        same = (self._lowest == self._highest).tolist()
        dead = [name for name, is_same in zip(self._targets, same, strict=True) if is_same]
        if dead:
            msg = (
                f"The network must tell pixels apart; for {', '.join(dead)} it gives the same "
                f"value to all pixels of {path}. Copy the weights again, or use another device."
            )
            raise NetworkOutputError(msg)


def is_constant(pixels: Tensor) -> bool:
    """Whether all pixels, ``(C, *spatial)``, equal the first; quick to tell if they do not."""
    first = pixels
    for axis in range(1, pixels.ndim):
        first = first.narrow(axis, 0, 1)
    return not any(bool((part != first[..., 0]).any()) for part in pixels.unbind(-1))
