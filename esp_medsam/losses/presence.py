"""Presence loss: is the target in the image at all?"""

import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.losses.annotation import Annotation
from esp_medsam.losses.counting import mean_count


class PresenceLoss(nn.Module):
    """Binary cross-entropy of the presence logits, for targets whose presence is known.

    :meth:`Annotation.presence_of_known` defines when presence is known.
    """

    def forward(self, presence_logits: Tensor, annotation: Annotation) -> Tensor:
        """Return the loss, a scalar; 0 if nothing is known.

        Args:
            presence_logits: ``(B, T)``.
            annotation: Masks and what is known, T rows each.
        """
        present, counts = annotation.presence_of_known()
        each = F.binary_cross_entropy_with_logits(
            presence_logits[annotation.known].float(), present.float(), reduction="none"
        )
        return (each * counts).sum() / mean_count(counts)
