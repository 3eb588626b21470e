"""Loss of the segmentation stage: masks, patch prompts and presence together."""

from typing import Literal, Protocol

from torch import Tensor, nn

from esp_medsam.losses.annotation import Annotation
from esp_medsam.losses.patch_prompt import PatchPromptLoss
from esp_medsam.losses.presence import PresenceLoss
from esp_medsam.losses.released_mask import ReleasedMaskLoss
from esp_medsam.losses.segmentation import SegmentationLoss


MaskLoss = Literal["per_target", "released"]
"""Loss used for masks: :class:`SegmentationLoss` or :class:`ReleasedMaskLoss`."""


class MaskPrediction(Protocol):
    """The fields that the loss reads from the output of the network's ``predict``.

    It also reads ``presence_logits``, ``(B, T)``, if there are any.
    """

    @property
    def low_res_logits(self) -> Tensor:
        """Mask logits, ``(B, T, h, w)``."""

    @property
    def patch_logits(self) -> Tensor:
        """Patch logits, ``(B, T, H / 32, W / 32)``."""


class PromptedSegmentationLoss(nn.Module):
    """Mask loss plus weighted patch-prompt loss, and presence loss if presence is predicted.

    Args:
        patch_weight: Weight of the patch-prompt loss. The paper's weight is unknown; 0.5 is what
            the same authors' UN-SAM uses for its hint loss.
        presence_weight: Weight of the presence loss, which is ours and has not been measured yet.
        mask_loss: Which loss is used for masks.
    """

    def __init__(
        self,
        *,
        patch_weight: float = 0.5,
        presence_weight: float = 0.5,
        mask_loss: MaskLoss = "per_target",
    ) -> None:
        super().__init__()
        self.patch_weight = patch_weight
        self.presence_weight = presence_weight
        self.segmentation = SegmentationLoss() if mask_loss == "per_target" else ReleasedMaskLoss()
        self.patch_prompt = PatchPromptLoss()
        self.presence = PresenceLoss()

    def forward(self, prediction: MaskPrediction, annotation: Annotation) -> Tensor:
        """Return the loss, a scalar.

        Args:
            prediction: Output of the network's ``predict``, T rows.
            annotation: Masks and what is known of them, at least T rows.

        Raises:
            ValueError: If a row beyond the prediction's T is known.
        """
        terms = self.terms(prediction, annotation)
        loss = terms["mask"] + self.patch_weight * terms["patch"]
        if "presence" in terms:
            loss = loss + self.presence_weight * terms["presence"]
        return loss

    def terms(self, prediction: MaskPrediction, annotation: Annotation) -> dict[str, Tensor]:
        """Return the terms of the loss by name, unweighted scalars.

        Arguments and errors are those of :meth:`forward`.
        """
        rows = prediction.low_res_logits.shape[1]
        if bool(annotation.known[:, rows:].any()):
            msg = f"annotation must know no rows beyond the prediction's {rows}; it does."
            raise ValueError(msg)
        annotation = annotation.rows(rows)
        terms: dict[str, Tensor] = {
            "mask": self.segmentation(prediction.low_res_logits, annotation),
            "patch": self.patch_prompt(prediction.patch_logits, annotation),
        }
        presence_logits: Tensor | None = getattr(prediction, "presence_logits", None)
        if presence_logits is not None and presence_logits.shape[1] > 0:
            terms["presence"] = self.presence(presence_logits, annotation)
        return terms
