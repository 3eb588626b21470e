"""Convert stored pixel values: rescaling, display window, marked regions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from esp_medsam.errors import NonFiniteError
from esp_medsam.image import UltrasoundRegion


_LADDER = tuple(np.dtype(name) for name in ("uint8", "int16", "int32", "float32"))
"""Types that pixels are kept in; each can hold all values of the one before it."""

_EXACT = 2.0**62
"""Bound below which integers are rescaled as 64-bit integers."""


def rescale(
    stored: npt.NDArray[Any], slope: float, intercept: float, *, source: str
) -> npt.NDArray[Any]:
    """Return ``stored * slope + intercept``, in the narrowest type that holds it.

    Integers stay integers if slope and intercept are integers; 8-bit values stay 8-bit if they do
    not change. All else is float32, computed in float64.

    Args:
        stored: Stored values, of any shape and integer type.
        slope: Rescale Slope.
        intercept: Rescale Intercept.
        source: The file, for messages.

    Returns:
        uint8, int16, int32 or float32.

    Raises:
        NonFiniteError: If slope or intercept is not finite, the slope is zero, or the product
            exceeds float32.
    """
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        msg = (
            f"{source} must have a finite Rescale Slope other than 0 and a finite Rescale "
            f"Intercept; got {slope:g} and {intercept:g}."
        )
        raise NonFiniteError(msg)
    if (slope, intercept) == (1.0, 0.0):
        return narrowest(stored)
    reach = 2.0 ** (8 * stored.dtype.itemsize) * abs(slope) + abs(intercept)
    if slope.is_integer() and intercept.is_integer() and reach < _EXACT:
        whole = stored.astype(np.int64) * int(slope) + int(intercept)
        return narrowest(whole, at_least=1)
    with np.errstate(over="ignore"):
        values: npt.NDArray[Any] = (stored * np.float64(slope) + intercept).astype(np.float32)
    if not np.isfinite(values).all():
        msg = (
            f"{source} must have values within float32 after Rescale Slope and Intercept; "
            f"got {slope:g} and {intercept:g}."
        )
        raise NonFiniteError(msg)
    return values


def narrowest(values: npt.NDArray[Any], *, at_least: int = 0) -> npt.NDArray[Any]:
    """Return integers in the first type of the ladder that holds them.

    8-bit values stay 8-bit; wider ones never become 8-bit, however small, because an 8-bit image
    is taken to mean that 0 and 255 are its black and white.

    Args:
        values: Integers of any shape and integer type.
        at_least: Step of the ladder to begin at.
    """
    if values.dtype == np.uint8 and at_least == 0:
        return values
    least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for dtype in _LADDER[1:3]:
        limits = np.iinfo(dtype)
        if limits.min <= least and most <= limits.max:
            return values.astype(dtype)
    return values.astype(np.float32)


def wider_dtype(first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any]:
    """Return the wider of two types of the ladder, which can hold the values of both."""
    return max(first, second, key=_LADDER.index)


def window_of(dataset: Dataset) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Return the values that the first window of a file shows as black and white, and warnings.

    With center ``c`` and width ``w``: ``LINEAR`` shows ``c - 0.5 - (w - 1) / 2`` black and
    ``c - 0.5 + (w - 1) / 2`` white, ``LINEAR_EXACT`` ``c - w / 2`` and ``c + w / 2``. ``SIGMOID``
    is replaced by its tangent at ``c``, which is ``LINEAR_EXACT``, with a warning. An invalid
    window is ignored with a warning: it states how to show values, not what they are.

    Reference:
        DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.
    """
    holder = _window_holder(dataset)
    if holder is None:
        return None, ()
    try:
        center, width = (_first_number(holder, k) for k in ("WindowCenter", "WindowWidth"))
    except (ValueError, TypeError, OverflowError):
        return None, ("The window in the header was ignored: it is not made of numbers.",)
    function = str(holder.get("VOILUTFunction") or "LINEAR").strip().upper()
    least = 1.0 if function == "LINEAR" else 0.0
    if not (math.isfinite(center) and math.isfinite(width) and width > least):
        note = f"The window in the header was ignored: center {center:g}, width {width:g}."
        return None, (note,)
    if function == "LINEAR":
        half = (width - 1.0) / 2.0
        return (center - 0.5 - half, center - 0.5 + half), ()
    limits = (center - width / 2.0, center + width / 2.0)
    if function == "LINEAR_EXACT":
        return limits, ()
    return limits, ("VOI LUT Function is not linear; a linear window was used instead.",)


def regions_of(
    dataset: Dataset, rows: int, columns: int
) -> tuple[tuple[UltrasoundRegion, ...], tuple[str, ...]]:
    """Return the calibrated ultrasound regions (0018,6011) inside the image, and warnings.

    Regions that reach beyond the image are clipped; invalid ones and those outside it are left out
    with a warning.

    Args:
        dataset: Data set of the file.
        rows: Number of rows of the image.
        columns: Number of columns of the image.
    """
    regions = []
    left_out = 0
    for item in dataset.get("SequenceOfUltrasoundRegions") or ():
        try:
            top, bottom = int(item.RegionLocationMinY0), int(item.RegionLocationMaxY1)
            left, right = int(item.RegionLocationMinX0), int(item.RegionLocationMaxX1)
            kinds = int(item.RegionDataType), int(item.RegionSpatialFormat)
        except (AttributeError, ValueError, TypeError):
            left_out += 1
            continue
        if not (0 <= top <= bottom and 0 <= left <= right and top < rows and left < columns):
            left_out += 1
            continue
        region = UltrasoundRegion(
            rows=(top, min(bottom, rows - 1)),
            columns=(left, min(right, columns - 1)),
            data_type=kinds[0],
            spatial_format=kinds[1],
        )
        regions.append(region)
    if not left_out:
        return tuple(regions), ()
    return tuple(regions), (f"Ultrasound regions left out, being outside its image: {left_out}.",)


def _window_holder(dataset: Dataset) -> Dataset | None:
    """Return the holder of the window: the dataset or a functional group of a multi-frame one."""
    holders = [dataset]
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for groups in list(dataset.get(keyword) or ())[:1]:
            holders.extend(list(groups.get("FrameVOILUTSequence") or ())[:1])
    found = (h for h in holders if _has_value(h, "WindowCenter") and _has_value(h, "WindowWidth"))
    return next(found, None)


def _has_value(dataset: Dataset, keyword: str) -> bool:
    """Whether the file states a value, including one that cannot be read."""
    try:
        return keyword in dataset and dataset[keyword].value not in (None, "")
    except (ValueError, TypeError, OverflowError):
        return True


def _first_number(dataset: Dataset, keyword: str) -> float:
    value = dataset[keyword].value
    return float(value if isinstance(value, int | float | str) else value[0])
