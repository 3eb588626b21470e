"""Networks that stand for trained ones."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.weights import network_of_table


class Prediction(NamedTuple):
    low_res_logits: Tensor


class BrightIsForeground(nn.Module):
    """A network whose mask is where the image is bright; each further target wants it brighter.

    Attributes:
        batches: How many slices it was given at a time.
    """

    def __init__(self, table: ModalityTable, stride: int = 1) -> None:
        super().__init__()
        self.modalities = table.indices
        self.targets = table.target_names
        self.stride = stride
        self.scale = nn.Parameter(torch.tensor(20.0))
        self.batches: list[int] = []

    def encode(self, image: Tensor, modality: Tensor | None) -> Tensor:
        assert image.dtype == torch.float32
        self.batches.append(len(image))
        return image

    def decode(
        self,
        encoded: Tensor,
        modality: Tensor | None,
        targets: list[int] | None,
        patch_prompt: Tensor | None,
    ) -> Prediction:
        gray = encoded.mean(1)[:, :: self.stride, :: self.stride]
        assert targets is not None
        logits = [self.scale * (gray - 0.5 - 0.1 * place) for place in targets]
        return Prediction(torch.stack(logits, dim=1))


def save_random_weights(path: Path, table: ModalityTable, seed: int = 0) -> Path:
    """Save weights of the product's network that never trained: they find something everywhere."""
    torch.manual_seed(seed)
    network = network_of_table(table)
    torch.save(network.half().state_dict(), path)
    return path
