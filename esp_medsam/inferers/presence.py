"""Leave masks empty if the network says that the target is absent."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from esp_medsam.errors import OptionError


def presence_threshold_of(value: float) -> float:
    """Return a presence threshold after checking its range.

    Raises:
        OptionError: If the threshold lies outside 0 to 1.
    """
    if not 0.0 <= value <= 1.0:  # NaN too
        msg = f"presence_threshold must be from 0, which keeps all masks, to 1; got {value}."
        raise OptionError(msg)
    return float(value)


def presence_logits_of(prediction: Any) -> Tensor:
    """Return the presence logits of a prediction, ``(B, T)``; ``(B, 0)`` if it has none."""
    logits: Tensor | None = getattr(prediction, "presence_logits", None)
    if logits is None:
        none: Tensor = prediction.low_res_logits[:, :0, 0, 0]
        return none
    return logits


def absent_in(presence_logits: Tensor, threshold: float) -> Tensor:
    """Return which targets the network calls absent in which slices, on the CPU.

    Args:
        presence_logits: ``(B, T)``, or ``(B, 0)`` for networks without presence output.
        threshold: Presence probability, 0 to 1, below which a target is absent.

    Returns:
        Bool ``(B, T)``, or ``(B, 0)``.
    """
    return (presence_logits.sigmoid() < threshold).cpu()


def empty_absent(probability: Tensor, absent: Tensor, axis: int | None) -> None:
    """Set the probability of absent targets to 0, in place.

    Args:
        probability: ``(T, *spatial)`` on the CPU.
        absent: Output of :func:`absent_in` for all slices.
        axis: The spatial axis along which the slices lie; None for a picture.
    """
    if not absent.shape[1]:
        return
    slices = [probability] if axis is None else probability.unbind(axis + 1)
    for one, names in zip(slices, absent, strict=True):
        one[names] = 0
