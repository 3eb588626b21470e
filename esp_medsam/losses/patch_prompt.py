"""Patch-prompt loss: does each 32 x 32 patch hold the target?"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esp_medsam.losses.annotation import Annotation


PATCH_SIZE = 32
"""Side of a patch in pixels of the input: two cells of the image embedding."""


def patch_target(mask: Tensor) -> Tensor:
    """Return which patches hold any foreground.

    Args:
        mask: 0 or 1, ``(B, T, H, W)``; H and W multiples of 32.

    Returns:
        0 or 1 float, ``(B, T, H / 32, W / 32)``: the max-pooled mask.
    """
    return F.max_pool2d(mask.float(), PATCH_SIZE)


class PatchPromptLoss(nn.Module):
    """Binary cross-entropy of the patch logits against the max-pooled mask, known targets alone.

    The one loss that trains the patch heads: the prompt itself is cut from the graph.
    """

    def forward(self, patch_logits: Tensor, annotation: Annotation) -> Tensor:
        """Return the loss, a scalar; 0 where nothing is known.

        Args:
            patch_logits: ``(B, T, H / 32, W / 32)``.
            annotation: Masks and what is known, T rows each.
        """
        known = annotation.known
        target = patch_target(annotation.mask)[known]
        each = F.binary_cross_entropy_with_logits(
            patch_logits[known].float(), target, reduction="none"
        )
        return each.flatten(1).mean(1).sum() / torch.clamp(known.sum(), min=1)
