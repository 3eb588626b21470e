"""Network output for a batch of slices, mapped back to each slice's own grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from esp_medsam.errors import ModalityError, NonFiniteError, TargetError
from esp_medsam.inferers.presence import presence_logits_of
from esp_medsam.inferers.resizing import content_part, to_probability


class NetworkOutput(NamedTuple):
    """Network output for a batch of slices.

    Attributes:
        encoded: Output of the network's encoder.
        logits: ``(B, T, h, w)`` float32, over the whole input.
        presence_logits: ``(B, T)`` float32; ``(B, 0)`` for networks without presence output.
        sizes: ``(H, W)`` that each slice occupies in the input.
        input_size: ``(H, W)`` of the whole input.
    """

    encoded: Any
    logits: Tensor
    presence_logits: Tensor
    sizes: Sequence[tuple[int, int]]
    input_size: tuple[int, int]

    def contents(self) -> Iterator[Tensor]:
        """Yield the logits ``(T, h', w')`` of each slice, without padding."""
        for one, size in zip(self.logits, self.sizes, strict=True):
            yield content_part(one, size, self.input_size)

    def probabilities(self, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return ``(T, rows, columns)`` uint8 on the CPU per slice, 255 times the probability.

        Args:
            shapes: Rows and columns of each slice.
        """
        return [
            to_probability(one[None], size, self.input_size, shape)[0]
            for one, size, shape in zip(self.logits, self.sizes, shapes, strict=True)
        ]


def network_output(
    network: Any,
    image: Tensor,
    sizes: Sequence[tuple[int, int]],
    *,
    modality: int,
    targets: list[int],
    amp: bool,
    what: str,
) -> NetworkOutput:
    """Return the network's output for slices.

    Args:
        network: An object with ``encode`` and ``decode``.
        image: Input of the network, ``(B, 3, H, W)``.
        sizes: ``(H, W)`` that each slice occupies in the input.
        modality: Index of the modality of all slices.
        targets: Indices of the targets in that modality's list.
        amp: Whether to run under bfloat16 autocast.
        what: Description of the slices, for the error message.

    Raises:
        NonFiniteError: If any logit is NaN or infinite.
    """
    with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=amp):
        index = torch.full((len(image),), modality, dtype=torch.long, device=image.device)
        encoded = network.encode(image, index)
        prediction = network.decode(encoded, index, targets, None)
    logits = prediction.low_res_logits.float()
    presence_logits = presence_logits_of(prediction).float()
    if not (torch.isfinite(logits).all() and torch.isfinite(presence_logits).all()):
        # NaN > 0 is False: without this check, the mask would silently be empty.
        msg = f"The network's logits must be finite; got NaN or infinity in {what}."
        raise NonFiniteError(msg)
    whole = (int(image.shape[-2]), int(image.shape[-1]))
    return NetworkOutput(encoded, logits, presence_logits, sizes, whole)


def runtime_of(network: Any, modality: str) -> str | None:
    """Return what computes a network's modality, with its version; None if it does not say."""
    told: str | None = network.runtime_of(modality) if hasattr(network, "runtime_of") else None
    return told


def places_in(network: Any, modality: str, names: Sequence[str]) -> tuple[int, list[int]]:
    """Return the modality's index and the targets' indices in the network's numbering.

    Raises:
        ModalityError: If the network does not have the modality.
        TargetError: If the network does not have a target.
    """
    if modality not in network.modalities:
        msg = (
            f"modality must be one of the network's ({', '.join(network.modalities)}); got "
            f"{modality!r}."
        )
        raise ModalityError(msg)
    held = list(network.targets[modality])
    missing = [name for name in names if name not in held]
    if missing:
        msg = (
            f"targets must be among the network's for {modality} ({', '.join(held)}); got "
            f"{', '.join(missing)}."
        )
        raise TargetError(msg)
    return int(network.modalities[modality]), [held.index(name) for name in names]
