"""What is known of a batch's targets: the masks, and which rows count at all."""

from typing import NamedTuple

from torch import Tensor


class Annotation(NamedTuple):
    """Ground truth of a batch.

    Attributes:
        mask: 0 or 1, ``(B, T, H, W)``; zeros where a target is known to be absent.
        known: Whether target T of image B is annotated or known to be absent, ``(B, T)`` bool.
            What is unknown counts in no loss: a slice of a set that annotates the liver says
            nothing about the pancreas.
    """

    mask: Tensor
    known: Tensor
