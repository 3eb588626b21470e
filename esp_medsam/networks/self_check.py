"""Results of a network on one small picture, used to compare machines.

Shape suffixes in this module:
    B  modalities of the network, one image each
    T  largest number of targets of any modality
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from esp_medsam.networks.esp_medsam import ESPMedSAM


SelfCheck = Mapping[str, Mapping[str, list[float]]]
"""Mean logits of each quarter of the mask, and of the patches, by modality and target."""

_SIDE = 64
_DIGITS = 4

_ABSOLUTE, _RELATIVE = 1e-3, 1e-3
"""Tolerance for differences. With the shipped weights, the number of threads causes a hundredth of
it, TF32 would cause half of it, and bfloat16 twenty times as much."""


@torch.no_grad()
def self_check(network: ESPMedSAM) -> dict[str, dict[str, list[float]]]:
    """Return the results of a network on a picture that is the same everywhere.

    Every modality's controllers and every target's queries take part. The patch prompt is given,
    so no threshold affects the results.

    Args:
        network: Network in evaluation mode, on any device.
    """
    like = next(network.parameters())
    modality_B = torch.tensor(list(network.modalities.values()), device=like.device)
    image = _picture().to(like).expand(len(modality_B), -1, -1, -1)
    T = max(len(targets) for targets in network.targets.values())
    prompt = torch.eye(_SIDE // 32).to(like).expand(len(modality_B), T, -1, -1)
    with _full_precision():
        prediction = network.predict(image, modality_B, None, prompt)
    quarters_BT4 = F.adaptive_avg_pool2d(prediction.low_res_logits, 2).flatten(2)
    patches_BT1 = prediction.patch_logits.mean((2, 3))[..., None]
    presence_BTP = prediction.presence_logits.reshape(len(modality_B), T, -1)  # P is 0 or 1
    numbers = torch.cat([quarters_BT4, patches_BT1, presence_BTP], 2).tolist()
    return {
        name: {
            target: [round(value, _DIGITS) for value in row]
            for target, row in zip(network.targets[name], rows, strict=False)
        }
        for name, rows in zip(network.modalities, numbers, strict=True)
    }


@contextmanager
def _full_precision() -> Iterator[None]:
    """Compute in full single precision; by default, CUDA convolves with reduced precision."""
    backends: Any = torch.backends
    settings = (
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
    )
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision


def differences(found: SelfCheck, expected: SelfCheck) -> list[str]:
    """Return as modality.target where two networks differ by more than machines do."""
    names = {f"{m}.{t}": (m, t) for check in (found, expected) for m in check for t in check[m]}
    return [
        name
        for name, (modality, target) in names.items()
        if not _agree(found.get(modality, {}).get(target), expected.get(modality, {}).get(target))
    ]


def _agree(found: list[float] | None, expected: list[float] | None) -> bool:
    if found is None or expected is None or len(found) != len(expected):
        return False
    return all(
        abs(one - other) <= _ABSOLUTE + _RELATIVE * abs(other)  # False for NaN
        for one, other in zip(found, expected, strict=True)
    )


def _picture() -> Tensor:
    """Return a picture ``(1, 3, 64, 64)`` from integer arithmetic, about as bright as images."""
    y, x = torch.meshgrid(torch.arange(_SIDE), torch.arange(_SIDE), indexing="ij")
    planes = [((3 * x * x + 5 * y * y + 7 * x * y * k) // 16 + 31 * k) % 97 for k in (1, 2, 3)]
    return ((torch.stack(planes) - 48) / 24.0)[None]
