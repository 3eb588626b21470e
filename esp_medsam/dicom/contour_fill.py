"""Rasterize a closed contour on the pixels of a slice."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


_CROSSINGS = 2**20
"""Edge-row crossings that are computed at once, about 50 MB."""

_NOISE = 6
"""Decimals of a pixel coordinate that are kept; further ones are rounding noise."""


def inside(corners: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return the pixels whose centers lie inside, by the even-odd rule.

    A ray follows each row of pixel centers: it enters the area at one crossing and leaves at the
    next. So a seam traced in both directions, such as to the hole of a keyhole contour, encloses
    nothing. A center on the contour itself belongs to the side of ascending columns or rows:
    contours that share an edge share no pixel, and an area through centers is kept.

    Args:
        corners: ``(N, 2)``, columns and rows, whole numbers at pixel centers; the last corner is
            joined to the first.
        shape: ``(columns, rows)``; anything outside is ignored.

    Returns:
        ``(columns, rows)``.
    """
    columns, rows = shape
    starts = corners.round(_NOISE)
    edges = np.stack([starts, np.roll(starts, -1, axis=0)], axis=1)
    # From the lower row to the higher, so that a seam is the same in both directions.
    is_down = edges[:, 0, 1] > edges[:, 1, 1]
    edges[is_down] = edges[is_down, ::-1]
    first, end = np.ceil(edges[..., 1]).clip(0, rows).astype(np.intp).T
    crosses = end > first
    edges, first, counts = edges[crosses], first[crosses], (end - first)[crosses]
    crossed = np.zeros((columns + 1, rows), dtype=np.bool_)
    begun = 0
    for ended in [*np.flatnonzero(np.diff(counts.cumsum() // _CROSSINGS)) + 1, len(edges)]:
        part = slice(begun, ended)
        _cross(crossed, edges[part], first[part], counts[part])
        begun = ended
    enclosed: npt.NDArray[np.bool_] = np.logical_xor.accumulate(crossed, axis=0)[:columns]
    return enclosed


def _cross(
    crossed: npt.NDArray[np.bool_],
    edges: npt.NDArray[np.float64],
    first: npt.NDArray[np.intp],
    counts: npt.NDArray[np.intp],
) -> None:
    """Flip, in each row that an edge crosses, the first pixel center after the crossing.

    Args:
        crossed: ``(columns + 1, rows)``; changed in place.
        edges: ``(E, 2, 2)``, lower and upper end of each edge, columns and rows.
        first: The first row that each edge crosses.
        counts: Number of rows that each edge crosses.
    """
    (x, y), (end_x, end_y) = edges.transpose(1, 2, 0)
    slope = (end_x - x) / (end_y - y)
    # Every row that an edge crosses, edge after edge.
    edge = np.repeat(np.arange(len(edges)), counts)
    row = np.arange(len(edge)) - np.repeat(counts.cumsum() - counts - first, counts)
    place = (x[edge] + (row - y[edge]) * slope[edge]).round(_NOISE)
    column = np.ceil(place).clip(0, len(crossed) - 1).astype(np.intp)
    np.logical_xor.at(crossed, (column, row), True)
