"""Presence loss: is the target in the image at all?"""

import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.losses.annotation import Annotation
from esp_medsam.losses.counting import mean_count


class PresenceLoss(nn.Module):
    """Binary cross-entropy of the presence logits, of known targets alone.

    A target is present where its mask holds any labeled foreground. Where some pixels are not
    labeled, only targets that are seen count: one that is not seen may lie in the others.
    """

    def forward(self, presence_logits: Tensor, annotation: Annotation) -> Tensor:
        """Return the loss, a scalar; 0 where nothing is known.

        Args:
            presence_logits: ``(B, T)``.
            annotation: Masks and what is known, T rows each.
        """
        labeled = annotation.labeled_of_known().flatten(1)
        mask = annotation.mask[annotation.known].flatten(1) > 0
        present = (mask & labeled).any(1)
        counts = present | labeled.all(1)
        each = F.binary_cross_entropy_with_logits(
            presence_logits[annotation.known].float(), present.float(), reduction="none"
        )
        return (each * counts).sum() / mean_count(counts)
