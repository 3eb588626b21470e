"""Which targets and pixels of a batch are annotated, absent or unknown."""

from typing import NamedTuple

import torch
from torch import Tensor


class Annotation(NamedTuple):
    """Ground truth of a batch.

    What is unknown counts in no loss: a slice of a set that annotates the liver says nothing about
    the pancreas, and one on which only some vertebrae were outlined says nothing of the others.

    Attributes:
        mask: 0 or 1, ``(B, T, H, W)``; zeros where a target is known to be absent.
        known: Whether target T of image B is annotated or known to be absent, ``(B, T)`` bool.
        labeled: At which pixels the masks say anything, ``(B, 1, H, W)`` bool; None for all. The
            margin around a smaller image is labeled: nothing is there.
        drawn: Which targets' masks were drawn and count in the mask loss, ``(B, T)`` bool, as
            far as they are known; None for all. Patches and presence count of all that are known.
    """

    mask: Tensor
    known: Tensor
    labeled: Tensor | None = None
    drawn: Tensor | None = None

    def rows(self, count: int) -> "Annotation":
        """Return the first ``count`` targets alone."""
        drawn = None if self.drawn is None else self.drawn[:, :count]
        return Annotation(self.mask[:, :count], self.known[:, :count], self.labeled, drawn)

    def of_drawn(self) -> "Annotation":
        """Return the same with all targets unknown whose masks were not drawn."""
        known = self.known if self.drawn is None else self.known & self.drawn
        return Annotation(self.mask, known, self.labeled)

    def labeled_of_known(self) -> Tensor:
        """Return the labeled pixels of each known target, ``(N, H, W)`` bool."""
        B, T, H, W = self.mask.shape
        if self.labeled is None:
            return torch.ones_like(self.mask[self.known], dtype=torch.bool)
        return self.labeled.expand(B, T, H, W)[self.known]

    def presence_of_known(self) -> tuple[Tensor, Tensor]:
        """Return of each known target whether it is in the image, and whether that is known.

        A target is present where its mask holds any labeled foreground. Where some pixels are not
        labeled, only targets that are seen count: one that is not seen may lie in the others.

        Returns:
            Both ``(N,)`` bool.
        """
        labeled = self.labeled_of_known().flatten(1)
        mask = self.mask[self.known].flatten(1) > 0
        present = (mask & labeled).any(1)
        return present, present | labeled.all(1)
