"""Mask loss: soft Dice and cross-entropy for each known target separately."""

import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.losses.annotation import Annotation
from esp_medsam.losses.counting import mean_count


class SegmentationLoss(nn.Module):
    r"""Weighted sum of soft Dice loss and binary cross-entropy, averaged over known targets.

    For one target with probabilities p and mask y::

        dice_weight * (1 - (2 sum(p y) + s) / (sum(p) + sum(y) + s)) + bce_weight * BCE(p, y)

    The Dice term is omitted if the target is absent: it would not say where to look, and would push
    so hard that a target absent from most images is never found again.
    Sums and means are over labeled pixels. Every (image, target) weighs the same, however large
    it is. The authors' sibling code sums the Dice term over the whole batch and weights a focal
    term by 0.16; separate targets keep the small and the absent ones from being outweighed.

    Args:
        dice_weight: Weight of the Dice term.
        bce_weight: Weight of the cross-entropy.
        smooth: Pixels s added to both parts of the Dice ratio.
    """

    def __init__(
        self, *, dice_weight: float = 1.0, bce_weight: float = 1.0, smooth: float = 1.0
    ) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.bce_weight = bce_weight
        self.smooth = smooth

    def forward(self, logits: Tensor, annotation: Annotation) -> Tensor:
        """Return the loss, a scalar; 0 if nothing is known, or no known target's mask was drawn.

        Args:
            logits: Mask logits, ``(B, T, h, w)``; resized bilinearly to the masks' size.
            annotation: Masks and what is known, T rows each.
        """
        annotation = annotation.of_drawn()
        logits = annotation.resize_to_masks(logits)
        known = annotation.known
        labeled_NP = annotation.labeled_of_known().flatten(1).float()
        logits_NP = logits[known].float().flatten(1)
        mask_NP = annotation.mask[known].float().flatten(1) * labeled_NP
        probability = logits_NP.sigmoid() * labeled_NP
        overlap = 2 * (probability * mask_NP).sum(1) + self.smooth
        dice = 1 - overlap / (probability.sum(1) + mask_NP.sum(1) + self.smooth)
        bce_NP = F.binary_cross_entropy_with_logits(logits_NP, mask_NP, reduction="none")
        bce = (bce_NP * labeled_NP).sum(1) / labeled_NP.sum(1).clamp(min=1)
        present = mask_NP.amax(1)
        each = self.dice_weight * present * dice + self.bce_weight * bce
        return each.sum() / mean_count(known)
