"""Training module, and the step outputs that MONAI's handlers read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from esp_medsam.networks import ESPMedSAM, Prediction
from esp_medsam.networks.frozen import hold_frozen_norms


class PredictForward(nn.Module):
    """The network's ``predict`` as a module's ``forward``, which trainers and DDP wrap.

    Args:
        network: The network; only its ``predict`` and ``predict_drawn`` are used.
        amp: Whether to compute in bfloat16 wherever autocast does; weights stay float32.
    """

    def __init__(self, network: ESPMedSAM, *, amp: bool = False) -> None:
        super().__init__()
        self.network = network
        self.amp = amp

    def train(self, mode: bool = True) -> Self:
        """Set the mode; batch norms with frozen parameters keep their statistics."""
        super().train(mode)
        hold_frozen_norms(self)
        return self

    def forward(
        self,
        image: Tensor,
        modality: Tensor,
        drawn: Tensor | None = None,
        patch_prompt: Tensor | None = None,
    ) -> Prediction:
        """Return the prediction for ``image``, ``(B, 3, H, W)``, and modality indices, ``(B,)``.

        Masks are drawn for the targets in ``drawn``, ``(B, T)`` bool; None draws all. For
        ``patch_prompt`` see :meth:`~esp_medsam.networks.ESPMedSAM.decode`.
        """
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            if drawn is None:
                return self.network.predict(image, modality)
            return self.network.predict_drawn(image, modality, drawn, patch_prompt)


def loss_of(output: Mapping[str, Any]) -> float:
    """Return the loss of a step, for MONAI's handlers."""
    loss: Tensor = output["loss"]
    return float(loss.detach())


def dice_inputs(output: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return masks and ground truth for MONAI's MeanDice, ``(B, T, H, W)`` each.

    T is that of the annotation, whatever targets the batch's modalities have, because MeanDice
    concatenates batches. Unannotated rows are empty in the truth, and MeanDice skips them;
    unannotated pixels are empty in both.
    """
    logits = output["pred"].low_res_logits
    annotation = output["label"]
    size = annotation.mask.shape[-2:]
    if logits.shape[-2:] != size:  # networks without a high-resolution path
        logits = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
    masks = torch.zeros_like(annotation.mask, dtype=torch.float32)
    masks[:, : logits.shape[1]] = logits > 0
    truth = annotation.mask * annotation.known[:, :, None, None]
    labeled = 1 if annotation.labeled is None else annotation.labeled
    return masks * labeled, (truth * labeled).float()
