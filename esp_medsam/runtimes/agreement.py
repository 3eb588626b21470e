"""Whether a runtime computes what the network computes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from esp_medsam.networks.esp_medsam import Encoded, ESPMedSAM


class Agreement(NamedTuple):
    """How two encodings of one picture agree, in what is decoded from them.

    Attributes:
        difference: Largest difference of mask and patch logits, relative to the largest logit.
        dice: Least Dice of the masks of a target, of those that are not empty; 1 if all are.
        voxels: Pixels of all masks of the network itself.
    """

    difference: float
    dice: float
    voxels: int


def phantom(height: int, width: int) -> Tensor:
    """Return a picture ``(1, 3, H, W)`` of ellipses and noise, normalized as images are.

    With the shipped weights it gives masks in every modality.
    """
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    picture = torch.zeros(height, width)
    for _ in range(12):
        a, b, p, q, level = (2 * torch.rand(5, generator=generator) - 1).tolist()
        p, q = 0.1 + 0.4 * abs(p), 0.1 + 0.4 * abs(q)
        picture[((x - a) / p) ** 2 + ((y - b) / q) ** 2 < 1] = 2 * level
    smooth = F.avg_pool2d(picture[None, None], 5, stride=1, padding=2)
    noise = torch.randn(1, 3, height, width, generator=generator)
    return smooth + 0.1 * noise


@torch.no_grad()
def agreement(network: ESPMedSAM, expected: Encoded, found: Encoded) -> Agreement:
    """Return how an encoding agrees with the network's own.

    Both are decoded with the prompt that the network itself generates, so that no threshold
    between them decides.

    Args:
        network: A network that holds one modality, whose decoder is used.
        expected: What the network encodes.
        found: What is to be compared.
    """
    own = network.decode(expected, None, None, None)
    prompt = network.prompt_generator.patch_prompt(own.patch_logits)
    own, other = (network.decode(each, None, None, prompt) for each in (expected, found))
    pairs = [(own.low_res_logits, other.low_res_logits), (own.patch_logits, other.patch_logits)]
    differences = [
        float((one - two).abs().max() / one.abs().max().clamp(min=1e-6)) for one, two in pairs
    ]
    masks, others = (each.low_res_logits > 0 for each in (own, other))
    sizes = masks.sum((0, 2, 3)) + others.sum((0, 2, 3))
    dice = 2 * (masks & others).sum((0, 2, 3)) / sizes.clamp(min=1)
    least = float(dice[sizes > 0].min()) if bool((sizes > 0).any()) else 1.0
    difference = max(differences)
    if difference != difference:  # NaN
        difference = float("inf")
    return Agreement(difference, least, int(masks.sum()))
