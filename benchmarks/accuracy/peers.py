"""Networks that the product's is compared with, behind its interface: same data, loss, schedule.

The configs beside this file put them in its place, as ``benchmarks/accuracy/arms.py`` asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from esp_medsam.networks.esp_medsam import ABSENT_LOGIT, Prediction


STRIDE = 32
"""Of its deepest features; images are padded to multiples of it."""


class PeerEncoded(NamedTuple):
    """All that a U-Net says, ``(B, N, H, W)``, a channel for each target of each modality."""

    logits: Tensor


class UNetPeer(nn.Module):
    """MONAI's DynUNet for all modalities: a channel a target, those of an image's own are taken.

    It is told the modality as the product's network is, by which channels are asked for. It has no
    patch prompts: their logits are constants, which no loss moves.

    Args:
        modalities: Index of each modality.
        targets: Target names of each modality.
        filters: Channels at strides 1 to 32; the default has about as many parameters as the
            product's network.
    """

    def __init__(
        self,
        modalities: Mapping[str, int],
        targets: Mapping[str, Sequence[str]],
        filters: Sequence[int] = (32, 64, 128, 256, 384, 384),
    ) -> None:
        super().__init__()
        self.modalities = dict(modalities)
        self.targets = {name: list(targets[name]) for name in modalities}
        self.first: dict[int, tuple[int, int]] = {}  # channels of each modality, by its index
        channels = 0
        for name, index in self.modalities.items():
            self.first[index] = (channels, len(self.targets[name]))
            channels += len(self.targets[name])
        strides = [1] + [2] * (len(filters) - 1)
        self.unet = DynUNet(
            spatial_dims=2,
            in_channels=3,
            out_channels=channels,
            kernel_size=[3] * len(filters),
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=list(filters),
        )

    def encode(self, image: Tensor, modality: Tensor | None) -> PeerEncoded:
        """Return what the U-Net says of images, ``(B, 3, H, W)``."""
        del modality
        height, width = image.shape[-2:]
        padded = F.pad(image, (0, -width % STRIDE, 0, -height % STRIDE))
        return PeerEncoded(self.unet(padded)[..., :height, :width])

    def decode(
        self,
        encoded: PeerEncoded,
        modality: Tensor,
        targets: list[int] | None,
        patch_prompt: Tensor | None,
    ) -> Prediction:
        """Return the channels of each image's own targets; see the product's ``decode``."""
        del patch_prompt
        logits = encoded.logits
        counts = [self.first[int(index)] for index in modality]
        rows = max(count for _, count in counts)
        own = torch.full((len(logits), rows, *logits.shape[-2:]), ABSENT_LOGIT, dtype=logits.dtype)
        own = own.to(logits.device)
        for place, (first, count) in enumerate(counts):
            own[place, :count] = logits[place, first : first + count]
        if targets is not None:
            own = own[:, targets]
        patches = logits.new_zeros(*own.shape[:2], *(-(-n // STRIDE) for n in own.shape[-2:]))
        return Prediction(own, patches, logits[:, :0], logits[:, :0, 0, 0])

    def predict_drawn(self, image: Tensor, modality: Tensor, drawn: Tensor) -> Prediction:
        """Return the prediction of all targets: leaving some out would save nothing."""
        del drawn
        return self.predict(image, modality)

    def predict(self, image: Tensor, modality: Tensor) -> Prediction:
        """Return what the product's ``predict`` does."""
        return self.decode(self.encode(image, modality), modality, None, None)


def without_controllers(
    modalities: Mapping[str, int], targets: Mapping[str, Sequence[str]]
) -> nn.Module:
    """Return the product's network whose controllers add nothing and do not train."""
    from esp_medsam.networks import build_product
    from esp_medsam.workflows.natural_images import silence_controllers

    return silence_controllers(build_product(modalities, targets, presence=True))
