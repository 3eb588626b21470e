"""Even stacks whose positions are written with few digits: the grid that they were rounded from.

Some scanners and converters keep positions to a tenth of a millimeter. In an oblique stack, or one
of thin slices, the gaps between them then differ by more than one in a hundred, though no slice
lies off an even grid by more than that last digit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


Array = npt.NDArray[np.float64]

_DIGITS = (0.1, 0.01, 0.001)
"""Last digits in mm to which positions are known to be rounded; coarser ones are no small error."""

_WHOLE = 1e-2
"""Part of a last digit that a position may be off a multiple of it: it may have been a float32."""

_EXACT = 1e-4
"""Part of a gap that a slice may lie off in a direction that is not rounded."""

_NEAR = 0.65
"""Part of the last digit that a slice may lie off a grid that its position was rounded from.

Rounding moves it by half of that digit at most, and a grid fitted by least squares lies a little
off the true one. Of three even slices one that was moved by a whole digit lies off by two thirds,
of more by more.
"""

_UNAMBIGUOUS = 0.25
"""Part of a gap that a slice may lie off along the stack: it is nearest to its own place."""

_STEPS = 40
"""Steps of the search for a gap, each of which leaves two thirds of where it may be."""


class RoundedGrid(NamedTuple):
    """An even grid along the normal, as near as can be to rounded positions.

    Attributes:
        start: ``(3,)``, where its first slice lies, LPS in mm.
        gap: Distance of its slices, mm.
        off: How far the slice lies off it that lies farthest, mm.
    """

    start: Array
    gap: float
    off: float


def last_digits(positions: Array) -> Array:
    """Return the last digit in mm that each coordinate is written with: ``(3,)``.

    Args:
        positions: ``(N, 3)``, mm.

    Returns:
        The coarsest of a tenth, a hundredth and a thousandth of which all are multiples; 0 where
        none is.
    """
    digits = np.zeros(3)
    for digit in reversed(_DIGITS):
        steps = positions / digit
        is_whole = (np.abs(steps - steps.round()) <= _WHOLE).all(axis=0)
        digits[is_whole] = digit
    return digits


def rounded_grid(positions: Array, normal: Array, digits: Array) -> RoundedGrid | None:
    """Return the even grid that positions were rounded from; None where there is none.

    There must be one that gives these positions when it is rounded. The grid returned is fitted by
    least squares, and slices may lie off it by 0.65 of the last digit in each direction, and by a
    quarter of the gap along the normal.

    Args:
        positions: ``(N, 3)``, in order along the normal, mm.
        normal: Unit normal of the slices, ``(3,)``.
        digits: What they are rounded to, as :func:`last_digits` finds it.
    """
    if len(positions) < 2 or not digits.any():
        return None
    numbers = np.arange(len(positions)) - (len(positions) - 1) / 2
    gap = float(numbers @ (positions @ normal) / (numbers @ numbers))
    middle = positions.mean(axis=0)
    off = positions - (middle + gap * numbers[:, None] * normal)
    most: Array = np.maximum(digits, _EXACT * gap)
    if (np.abs(off) > _NEAR * most).any() or not _can_be_rounded(positions, numbers, normal, most):
        return None
    if np.abs(off @ normal).max() > _UNAMBIGUOUS * gap:
        return None
    farthest = float(np.linalg.norm(off, axis=1).max())
    return RoundedGrid(middle + gap * numbers[0] * normal, gap, farthest)


def _can_be_rounded(
    positions: Array, numbers: npt.NDArray[Any], normal: Array, digits: Array
) -> bool:
    """Whether some gap leaves all positions within one last digit of one another, as rounding does.

    How far they spread about an even grid is convex in its gap: a search by thirds finds the least.
    """

    def spread(gap: float) -> float:
        off = positions - gap * numbers[:, None] * normal
        return float((np.ptp(off, axis=0) / digits).max())

    start = float(numbers @ (positions @ normal) / (numbers @ numbers))
    width = float(np.linalg.norm(digits)) / (numbers[-1] - numbers[0])
    low, high = start - width, start + width
    for _ in range(_STEPS):
        third = (high - low) / 3
        if spread(low + third) <= spread(high - third):
            high -= third
        else:
            low += third
    return spread((low + high) / 2) <= 1 + 2 * _WHOLE
