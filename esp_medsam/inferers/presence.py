"""Leave masks empty where the network says that the target is absent."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from esp_medsam.errors import OptionError


def presence_threshold_of(value: float) -> float:
    """Return a threshold of presence, once it is one.

    Raises:
        OptionError: If it lies outside of 0 to 1.
    """
    if not 0.0 <= value <= 1.0:  # NaN too
        msg = f"presence_threshold must be from 0, which keeps all masks, to 1; got {value}."
        raise OptionError(msg)
    return float(value)


def presence_logits_of(prediction: Any) -> Tensor:
    """Return the presence logits of a prediction, ``(B, T)``; ``(B, 0)`` where it has none."""
    logits: Tensor | None = getattr(prediction, "presence_logits", None)
    if logits is None:
        none: Tensor = prediction.low_res_logits[:, :0, 0, 0]
        return none
    return logits


def empty_absent(probability: Tensor, presence_logits: Tensor, threshold: float) -> Tensor:
    """Set the probability to 0 where a target's presence lies below a threshold; in place.

    Args:
        probability: ``(B, T, rows, columns)`` on the CPU.
        presence_logits: ``(B, T)``, or ``(B, 0)``, which changes nothing.
        threshold: Of the presence probability, 0 to 1; 0 changes nothing.

    Returns:
        ``probability``.
    """
    if presence_logits.shape[1]:
        probability[(presence_logits.sigmoid() < threshold).cpu()] = 0
    return probability
