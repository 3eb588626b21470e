"""Which targets and pixels of a batch are annotated, absent or unknown."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Annotation(NamedTuple):
    """Ground truth of a batch.

    Unknown targets and pixels count in no loss: a slice from a dataset that annotates the liver
    says nothing about the pancreas, and a slice on which only some vertebrae were outlined says
    nothing about the others.

    Attributes:
        mask: 0 or 1, ``(B, T, H, W)``; zeros where a target is known to be absent.
        known: Whether target T of image B is annotated or known to be absent, ``(B, T)`` bool.
        labeled: Pixels at which the masks are valid, ``(B, 1, H, W)`` bool; None means all. The
            margin around a smaller image is labeled: nothing is there.
        drawn: Targets whose masks were drawn and count in the mask loss if they are also known,
            ``(B, T)`` bool; None means all. Patches and presence count for all known targets.
    """

    mask: Tensor
    known: Tensor
    labeled: Tensor | None = None
    drawn: Tensor | None = None

    def rows(self, count: int) -> "Annotation":
        """Return the annotation of the first ``count`` targets only."""
        drawn = None if self.drawn is None else self.drawn[:, :count]
        return Annotation(self.mask[:, :count], self.known[:, :count], self.labeled, drawn)

    def of_drawn(self) -> "Annotation":
        """Return the annotation with all targets unknown whose masks were not drawn."""
        known = self.known if self.drawn is None else self.known & self.drawn
        return Annotation(self.mask, known, self.labeled)

    def resize_to_masks(self, logits: Tensor) -> Tensor:
        """Return mask logits, ``(B, T, h, w)``, resized bilinearly to the size of the masks."""
        size = self.mask.shape[-2:]
        if logits.shape[-2:] == size:
            return logits
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)

    def labeled_of_known(self) -> Tensor:
        """Return the labeled pixels of each known target, ``(N, H, W)`` bool."""
        B, T, H, W = self.mask.shape
        if self.labeled is None:
            return torch.ones_like(self.mask[self.known], dtype=torch.bool)
        return self.labeled.expand(B, T, H, W)[self.known]

    def presence_of_known(self) -> tuple[Tensor, Tensor]:
        """Return for each known target whether it is in the image, and whether that is known.

        A target is present if its mask has any labeled foreground. If some pixels are not labeled,
        only visible targets count: a target that is not visible may lie in the unlabeled pixels.

        Returns:
            Both ``(N,)`` bool.
        """
        labeled = self.labeled_of_known().flatten(1)
        mask = self.mask[self.known].flatten(1) > 0
        present = (mask & labeled).any(1)
        return present, present | labeled.all(1)
