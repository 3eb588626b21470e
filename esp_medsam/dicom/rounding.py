"""Recover the even grid of a stack whose positions were rounded to few digits.

Some scanners and converters keep positions to a tenth of a millimeter. In an oblique stack, or one
of thin slices, the gaps between positions then differ by more than one in a hundred, although no
slice lies off an even grid by more than that last digit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


Array = npt.NDArray[np.float64]

_DIGITS = (0.1, 0.01, 0.001)
"""Last digits, in mm, to which positions are known to be rounded; coarser is no small error."""

_WHOLE = 1e-2
"""How far a position may be off a multiple of its last digit, as a fraction of it (float32)."""

_EXACT = 1e-4
"""Fraction of a gap by which a slice may lie off the grid in a direction that is not rounded."""

_NEAR = 0.65
"""Fraction of the last digit by which a slice may lie off the grid it was rounded from.

Rounding moves a slice by at most half of that digit, and a grid fitted by least squares lies a
little off the true one. If one of three even slices was moved by a whole digit, it lies off by two
thirds; with more slices, by more.
"""

_UNAMBIGUOUS = 0.25
"""Fraction of a gap by which a slice may lie off along the stack and be nearest to its place."""

_STEPS = 40
"""Steps of the search for a gap; each step keeps two thirds of the search interval."""


class RoundedGrid(NamedTuple):
    """An even grid along the normal that best fits rounded positions.

    Attributes:
        start: Position of the first slice, ``(3,)``, LPS in mm.
        gap: Distance between slices, mm.
        off: Largest distance of a slice from the grid, mm.
    """

    start: Array
    gap: float
    off: float


def last_digits(positions: Array) -> Array:
    """Return the last digit, in mm, that each coordinate is written with: ``(3,)``.

    Args:
        positions: ``(N, 3)``, mm.

    Returns:
        For each coordinate, the coarsest of 0.1, 0.01 and 0.001 that divides all values; 0 if
        none does.
    """
    digits = np.zeros(3)
    for digit in reversed(_DIGITS):
        steps = positions / digit
        is_whole = (np.abs(steps - steps.round()) <= _WHOLE).all(axis=0)
        digits[is_whole] = digit
    return digits


def rounded_grid(positions: Array, normal: Array, digits: Array) -> RoundedGrid | None:
    """Return the even grid that positions were rounded from, or None if there is none.

    Some even grid must give these positions when rounded. The returned grid is fitted by least
    squares; slices may lie off it by 0.65 of the last digit in each direction, and by a quarter of
    the gap along the normal.

    Args:
        positions: ``(N, 3)``, in order along the normal, mm.
        normal: Unit normal of the slices, ``(3,)``.
        digits: The last digits of the positions, from :func:`last_digits`.
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
    """Whether some gap keeps all positions within one last digit of a grid, as rounding does.

    The spread of positions about an even grid is convex in its gap, so a ternary search finds the
    minimum.
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
