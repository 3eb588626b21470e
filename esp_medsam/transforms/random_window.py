"""Random display windows, for training."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Randomizable, Transform

from esp_medsam.errors import OptionError


class RandomWindow(Randomizable, Transform):
    """Show ``image`` through ``window``, or through one with shifted edges.

    Datasets that were windowed before differ in window and center, and those in Hounsfield units
    differ in scanners. Values outside the range that was kept cannot be shown, so an edge moves to
    the end of that range at most.

    Args:
        shift: Largest shift of an edge, relative to the window's width; 0 shows the window itself.
        prob: Probability that the edges move.

    Raises:
        OptionError: If ``shift`` is negative, or 0.5 or more.
    """

    def __init__(self, shift: float = 0.0, prob: float = 0.7) -> None:
        if not 0.0 <= shift < 0.5:
            msg = (
                "shift must be at least 0 and less than 0.5, so that edges never meet; got "
                f"{shift}."
            )
            raise OptionError(msg)
        self.shift = shift
        self.prob = prob
        self.moved = (0.0, 0.0)

    def randomize(self, data: Any = None) -> None:
        """Draw how far each edge moves."""
        del data
        moves = self.R.random() < self.prob
        first, second = self.R.uniform(-self.shift, self.shift, 2)
        self.moved = (float(first), float(second)) if moves else (0.0, 0.0)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with ``image`` shown in 0..1 and without ``window``.

        Args:
            data: ``image`` in 0..1, and ``window``, the two of these values that are shown as black
                and white; without ``window`` they are 0 and 1.
        """
        shown = dict(data)
        low, high = shown.pop("window", (0.0, 1.0))
        if self.shift:
            self.randomize()
            width = high - low
            low = max(0.0, low + self.moved[0] * width)
            high = min(1.0, high + self.moved[1] * width)
        if (low, high) != (0.0, 1.0):
            shown["image"] = ((shown["image"] - low) / (high - low)).clamp(0.0, 1.0)
        return shown
