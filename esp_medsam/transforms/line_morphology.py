"""Fast grayscale opening and closing by lines and squares."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt


Bytes = npt.NDArray[np.uint8]

_Row = tuple[int, int, int]
"""A row of points: the step from one to the next in rows and in columns, and their number."""


def line_closings(image: Bytes, length: int) -> Iterator[Bytes]:
    """Yield the closing by a line of about ``length`` pixels, direction by direction.

    Lines are Minkowski sums of rows of points, and each row is built by doubling, so the time grows
    with the logarithm of the length. Beyond its edge, the image continues with its edge values.
    """
    return _filtered(image, length, np.maximum, np.minimum)


def line_openings(image: Bytes, length: int) -> Iterator[Bytes]:
    """Yield the opening by a line of about ``length`` pixels, direction by direction."""
    return _filtered(image, length, np.minimum, np.maximum)


def square_opening(image: Bytes, side: int) -> Bytes:
    """Return the opening by a square of ``side`` pixels."""
    return _through(image, ((0, 1, side), (1, 0, side)), side + 1, np.minimum, np.maximum)


def square_dilation(image: Bytes, side: int) -> Bytes:
    """Return the largest value in a square of an odd ``side`` around each pixel."""
    margin, half = side + 1, side // 2
    result = np.pad(image, margin, mode="edge")
    for row in ((0, 1, side), (1, 0, side)):
        result = _along(result, row, np.maximum, 1)
    # Each row of points begins at its pixel and extends before it.
    kept = slice(margin + half, half - margin or None)
    return result[kept, kept]


def _filtered(
    image: Bytes,
    length: int,
    first: Callable[..., Bytes],
    second: Callable[..., Bytes],
) -> Iterator[Bytes]:
    for rows in _lines(length):
        yield _through(image, rows, 2 * length + 4, first, second)


def _through(
    image: Bytes,
    rows: tuple[_Row, ...],
    margin: int,
    first: Callable[..., Bytes],
    second: Callable[..., Bytes],
) -> Bytes:
    """Return one extreme over the sum of rows of points, then the other extreme of the result."""
    result = np.pad(image, margin, mode="edge")
    for extreme, sign in ((first, 1), (second, -1)):
        for row in rows:
            result = _along(result, row, extreme, sign)
    return result[margin:-margin, margin:-margin]


def _lines(length: int) -> list[tuple[_Row, ...]]:
    """Return the lines: along, across, both diagonals, and the four directions between them."""
    diagonal = max(2, round(length / 2**0.5))
    between = max(2, round(length / 5**0.5))
    lines: list[tuple[_Row, ...]] = [((0, 1, length),), ((1, 0, length),)]
    for sign in (1, -1):
        lines.append(((sign, 1, diagonal),))
        # Points a knight's move apart leave gaps; a pair of points fills them.
        lines.append(((sign, 2, between), (0, 1, 2)))
        lines.append(((2 * sign, 1, between), (1, 0, 2)))
    return lines


def _along(image: Bytes, row: _Row, extreme: Callable[..., Bytes], sign: int) -> Bytes:
    """Return the extreme over a row of points; values that wrap around stay in the margin."""
    down, right, points = row
    reached = 1
    while reached < points:
        step = sign * min(reached, points - reached)
        image = extreme(image, np.roll(image, (step * down, step * right), (0, 1)))
        reached += abs(step)
    return image
