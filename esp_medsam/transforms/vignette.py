"""Find the dark corners around the round field of a dermoscope."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_dilation, binary_opening  # type: ignore[import-untyped]  # no types
from skimage.measure import label
from torch import Tensor

from esp_medsam.transforms.slices import luminance, shrink


_GRID = 256
"""Longest side of the grid on which corners are sought."""


class Circle(NamedTuple):
    """A circle in pixels."""

    row: float
    column: float
    radius: float


def dark_corners(img: Tensor) -> Tensor | None:
    """Find the dark corners around a round field; return None if none are found for sure.

    On a grid of at most 256 pixels a side:

    1. A pixel is dark if its luminance is below half of the skin's, the third quartile of the
       image's center. Dark regions are opened by a square of 5 pixels to remove hairs and a ruler's
       ticks; those within 5 pixels of a corner are kept. At least two corners must be dark.
    2. A circle is fitted by least squares to where these regions end, three times, each time
       without the farthest fifth of the points, so that a dark lesion at the rim does not bend it.
    3. The circle must be a field: nine points in ten lie within 2.5 % of the longer side of it, its
       center is in the middle half of the image, and its disc covers a third of the image.
    4. The corners are the pixels outside the circle, including a rim of 3 % of its radius, that are
       darker than 80 % of the skin: the penumbra, but no bright skin and no ruler.

    Args:
        img: ``(C, rows, columns)`` in 0..1.

    Returns:
        ``(rows, columns)`` bool, at the image's own size.
    """
    light = luminance(img)
    coarse = shrink(light[None], _GRID)[0].numpy(force=True)
    rows, columns = coarse.shape
    if min(rows, columns) < 16:
        return None
    center = coarse[rows // 4 : -(rows // 4), columns // 4 : -(columns // 4)]
    skin = float(np.percentile(center, 75.0))
    regions = _corner_regions(coarse < 0.5 * skin)
    circle = None if regions is None else _field(regions)
    if circle is None:
        return None
    scale = max(img.shape[-2:]) / max(coarse.shape)
    return _outside(circle, scale, light) & (light < 0.8 * skin)


def _corner_regions(dark: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    framed = np.pad(dark, 5, mode="edge")
    opened = binary_opening(framed, np.ones((5, 5), bool))[5:-5, 5:-5]
    components = label(opened, connectivity=1)  # type: ignore[no-untyped-call]
    ends = (slice(None, 5), slice(-5, None))
    # Not the corner pixels alone: scans often have a line of another color along their edge.
    corners = [components[rows, columns].max() for rows in ends for columns in ends]
    if np.count_nonzero(corners) < 2:
        return None
    regions: npt.NDArray[np.bool_] = np.isin(components, [c for c in corners if c])
    return regions


def _field(regions: npt.NDArray[np.bool_]) -> Circle | None:
    """Return the circle that bounds the dark regions, or None if there is none."""
    rows, columns = regions.shape
    points = np.argwhere(binary_dilation(regions) & ~regions).astype(np.float64)
    for _ in range(3):
        if len(points) < 10:
            return None
        circle = _fitted(points)
        error = _error(points, circle)
        points = points[error <= np.quantile(error, 0.8)]
    circle = _fitted(points)
    edge = np.argwhere(binary_dilation(regions) & ~regions)
    inside = _error(np.argwhere(~regions), circle, signed=True) < 0
    if (
        np.quantile(_error(edge, circle), 0.9) > 0.025 * max(rows, columns)
        or not rows / 4 < circle.row < 3 * rows / 4
        or not columns / 4 < circle.column < 3 * columns / 4
        or np.count_nonzero(inside) < regions.size / 3
    ):
        return None
    return circle


def _fitted(points: npt.NDArray[np.float64]) -> Circle:
    """Return the least-squares circle (Kasa): linear in center and constant term."""
    center = points.mean(0)
    offset = points - center
    system = np.column_stack((2.0 * offset, np.ones(len(points))))
    (row, column, constant), *_ = np.linalg.lstsq(system, (offset**2).sum(1), rcond=None)
    radius = float(np.sqrt(max(constant + row**2 + column**2, 0.0)))
    return Circle(float(center[0] + row), float(center[1] + column), radius)


def _error(
    points: npt.NDArray[Any], circle: Circle, *, signed: bool = False
) -> npt.NDArray[np.float64]:
    """Return the distance of points from a circle; if signed, positive outside it."""
    error = np.hypot(points[:, 0] - circle.row, points[:, 1] - circle.column) - circle.radius
    distance: npt.NDArray[np.float64] = error if signed else np.abs(error)
    return distance


def _outside(circle: Circle, scale: float, light: Tensor) -> Tensor:
    """Return the pixels outside a circle of the coarse grid, and those of its rim."""
    rows, columns = (
        (torch.arange(side, device=light.device) + 0.5) / scale - 0.5 - center
        for side, center in zip(light.shape, (circle.row, circle.column), strict=True)
    )
    return rows[:, None] ** 2 + columns**2 > (0.97 * circle.radius) ** 2
