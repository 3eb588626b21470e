"""A whole network of one modality as a graph: from an image to probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.networks.esp_medsam import ESPMedSAM


INPUT = "image"

OUTPUTS = ("probability", "presence")
"""Names of the outputs; a network without presence heads has the first alone."""


class ModalityGraph(nn.Module):
    """A network that holds one modality, with all that does not depend on a file.

    Args:
        network: The network, as :func:`~esp_medsam.networks.fusion.fuse` returns it.
        mean: Mean of each channel, of values in 0..1.
        deviation: Standard deviation of each channel.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, network: ESPMedSAM, mean: Sequence[float], deviation: Sequence[float]
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1))

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs."""
        return list(OUTPUTS[: 1 if self.network.presence is None else 2])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return probabilities.

        Args:
            image: ``(B, 3, H, W)``, 0..1; padding has the mean of each channel.

        Returns:
            The probability of each target at each pixel, ``(B, T, H, W)``; and of its presence,
            ``(B, T)``, if the network has presence heads.
        """
        normalized = (image - self.mean) / self.deviation
        encoded = self.network.encode(normalized, None)
        prediction = self.network.decode(encoded, None, None, None)
        logits = prediction.low_res_logits
        if self.network.high_resolution is None:
            size = image.shape[-2:]
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        outputs = [logits.sigmoid()]
        if self.network.presence is not None:
            outputs.append(prediction.presence_logits.sigmoid())
        return outputs
