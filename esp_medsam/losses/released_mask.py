"""Mask loss of the authors' code: soft Dice and a focal term over the whole batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.losses.annotation import Annotation


class ReleasedMaskLoss(nn.Module):
    r"""Weighted sum of one soft Dice loss and one focal term over all pixels of a batch.

    With probabilities p and masks y of all known targets together, and BCE their mean
    cross-entropy::

        w (1 - (2 sum(p y) + 1) / (sum(p) + sum(y) + 1)) + (1 - w) 0.8 (1 - exp(-BCE))^2 BCE

    Sums and means are over labeled pixels; the authors' masks are labeled everywhere. Large targets
    weigh more than small ones. With several processes, each uses its own part of the batch, so the
    number of processes changes the loss.

    Args:
        dice_weight: The weight w.

    Reference:
        ``BinaryMaskLoss(0.8)`` of De-LightSAM, where it is commented out, and of UN-SAM.
    """

    FOCAL_ALPHA = 0.8

    def __init__(self, *, dice_weight: float = 0.8) -> None:
        super().__init__()
        self.dice_weight = dice_weight

    def forward(self, logits: Tensor, annotation: Annotation) -> Tensor:
        """Return the loss, a scalar; 0 if nothing is known, or no known target's mask was drawn.

        Args:
            logits: Mask logits, ``(B, T, h, w)``; resized bilinearly to the masks' size.
            annotation: Masks and what is known, T rows each.
        """
        annotation = annotation.of_drawn()
        logits = annotation.resize_to_masks(logits)
        labeled_NHW = annotation.labeled_of_known()
        logits_P = logits[annotation.known][labeled_NHW].float()
        mask_P = annotation.mask[annotation.known][labeled_NHW].float()
        if not len(logits_P):
            return logits_P.sum()
        probability_P = logits_P.sigmoid()
        overlap = 2 * (probability_P * mask_P).sum() + 1
        dice = 1 - overlap / (probability_P.sum() + mask_P.sum() + 1)
        bce = F.binary_cross_entropy_with_logits(logits_P, mask_P)
        focal = self.FOCAL_ALPHA * (1 - torch.exp(-bce)).pow(2) * bce
        return self.dice_weight * dice + (1 - self.dice_weight) * focal
