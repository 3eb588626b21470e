"""Patch-prompt loss: does each 32 x 32 patch hold the target?"""

import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.losses.annotation import Annotation
from esp_medsam.losses.counting import mean_count


PATCH_SIZE = 32
"""Side of a patch in input pixels: two cells of the image embedding."""


def patch_target(mask: Tensor) -> Tensor:
    """Return which patches contain any foreground.

    Args:
        mask: 0 or 1, ``(B, T, H, W)``; H and W multiples of 32.

    Returns:
        0 or 1 float, ``(B, T, H / 32, W / 32)``: the max-pooled mask.
    """
    return F.max_pool2d(mask.float(), PATCH_SIZE)


class PatchPromptLoss(nn.Module):
    """Binary cross-entropy of the patch logits against the max-pooled mask, for known targets only.

    This is the only loss that trains the patch heads if the prompt is hard and thus cut from the
    graph. A patch with unlabeled pixels counts only if its labeled pixels contain the target,
    because unlabeled pixels may contain it, too.
    """

    def forward(self, patch_logits: Tensor, annotation: Annotation) -> Tensor:
        """Return the loss, a scalar; 0 if nothing is known.

        Args:
            patch_logits: ``(B, T, H / 32, W / 32)``.
            annotation: Masks and what is known, T rows each.
        """
        known = annotation.known
        labeled = annotation.labeled_of_known()[:, None]
        target = patch_target(annotation.mask[known][:, None] * labeled)
        counts = target.maximum(1.0 - patch_target(~labeled))
        each = F.binary_cross_entropy_with_logits(
            patch_logits[known][:, None].float(), target, reduction="none"
        )
        per_target = (each * counts).flatten(1).sum(1) / counts.flatten(1).sum(1).clamp(min=1)
        return per_target.sum() / mean_count(known)
