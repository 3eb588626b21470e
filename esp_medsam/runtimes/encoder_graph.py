"""The encoder as a graph of tensors alone, which every runtime computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from esp_medsam.networks.esp_medsam import Encoded, ESPMedSAM


Engine = Callable[[Tensor], Sequence[Tensor]]
"""Computes the outputs of :class:`EncoderGraph` from its input."""


class EncoderGraph(nn.Module):
    """The encoder of a network that holds one modality.

    The outputs of the encoder lie channel by channel at each position, as its convolutions leave
    them, so that no runtime has to reorder the full-resolution features.

    Args:
        network: The network, as :func:`~esp_medsam.networks.fusion.fuse` returns it.
    """

    def __init__(self, network: ESPMedSAM) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return what is encoded, each as ``(B, h, w, C)``.

        Args:
            image: ``(B, 3, H, W)``, normalized.

        Returns:
            The image embedding; the features at stride 8, if the encoder has a pyramid; and the
            full-resolution features, if the network has them.
        """
        encoded = self.network.encode(image, None)
        parts = [encoded.image_embedding, *encoded.pyramid[-1:]]
        if encoded.full_res.shape[1] > 0:
            parts.append(encoded.full_res)
        return [part.permute(0, 2, 3, 1) for part in parts]

    def encoded(self, image: Tensor, outputs: Sequence[Tensor]) -> Encoded:
        """Return outputs of the graph as the network's decoder takes them.

        Of the pyramid, only the features at stride 8 are there; the decoder needs none of it.

        Args:
            image: What was encoded.
            outputs: As :meth:`forward` returns them.
        """
        embedding, *rest = (part.permute(0, 3, 1, 2) for part in outputs)
        has_full_res = self.network.high_resolution is not None
        full_res = rest.pop() if has_full_res else image[:, :0]
        return Encoded(embedding, rest, full_res)


def one_by_one(engine: Engine) -> Engine:
    """Return an engine for any batch from one that takes a single image."""

    def run(image: Tensor) -> Sequence[Tensor]:
        if len(image) == 1:
            return engine(image)
        parts = [engine(image[index : index + 1]) for index in range(len(image))]
        return [torch.cat(same) for same in zip(*parts, strict=True)]

    return run
