"""How sure the network is of a mask: the mean probability inside it."""

from __future__ import annotations

import torch
from torch import Tensor

from esp_medsam.transforms.label_map import FOREGROUND


def confidence_of(probability: Tensor) -> tuple[float | None, ...]:
    """Return the mean probability inside the mask of each target; None where it is empty.

    Args:
        probability: uint8 ``(T, *spatial)``, 255 times the probability.
    """
    value = torch.arange(256)
    inside = torch.zeros(2, len(probability), dtype=torch.int64)
    # Part by part: bincount widens what it counts.
    for part in probability.unbind(-1) if probability.ndim > 3 else [probability]:
        counts = torch.stack([torch.bincount(one.flatten(), minlength=256) for one in part])
        counts *= value >= FOREGROUND
        inside += torch.stack(((counts * value).sum(1), counts.sum(1)))
    return tuple(
        total / (255.0 * size) if size else None
        for total, size in zip(*inside.tolist(), strict=True)
    )
