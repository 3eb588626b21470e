"""Measure which intensities of an image are shown as 0 and 1.

The inferer windows the slices, batch by batch, because a volume is never held as float.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import numpy.typing as npt
from torch import Tensor

from esp_medsam.errors import ModalityError, NonFiniteError, OptionError
from esp_medsam.image import Image
from esp_medsam.transforms.options import percentiles_option


@dataclass(frozen=True)
class IntensityRule:
    """How the values shown as 0 and 1 are determined.

    Args:
        hounsfield: Values for images in HU; None if the modality has none.
        fixed: Values for images without a unit, of any type; None if there are none.
        percentiles: Lower and upper percentile, in percent, used if nothing fixed applies.
        foreground: Whether to take percentiles of nonzero voxels only, without an empty background.
        full_uint8: Whether 8-bit images are shown as they are, from 0 to 255.
        file_window: Whether to use the window that the file states, as in DICOM radiographs.

    Raises:
        OptionError: If two values do not ascend.
    """

    hounsfield: tuple[float, float] | None = None
    fixed: tuple[float, float] | None = None
    percentiles: tuple[float, float] = (0.5, 99.5)
    foreground: bool = False
    full_uint8: bool = True
    file_window: bool = False

    def __post_init__(self) -> None:
        """Refuse values that would show everything as 0."""
        for name in ("hounsfield", "fixed"):
            pair = getattr(self, name)
            if pair is not None:
                _check_ascending(name, pair)
        percentiles_option("percentiles", self.percentiles)


def _check_ascending(name: str, pair: Sequence[float]) -> None:
    msg = f"{name} must be two ascending numbers; got {pair}."
    try:
        low, high = (float(value) for value in pair)
    except (TypeError, ValueError) as error:
        raise OptionError(msg) from error
    if not -inf < low < high < inf:
        raise OptionError(msg)


class MeasureIntensity:
    """Find the values of an image that are shown as 0 and as 1.

    Images in HU get a fixed window. Others get the file's own window, fixed values, or 0 and 255 if
    8-bit, as far as the rule says so, and otherwise two percentiles. A constant image ``c`` gives
    ``(c, c + 1)``, so it is shown as 0. If the file shows low values as white, the two are swapped.
    """

    def __init__(self, rule: IntensityRule) -> None:
        self.rule = rule

    def __call__(self, pixels: npt.NDArray[np.generic] | Tensor, record: Image) -> Image:
        """Return the record with ``intensity_range``; the pixels are left alone.

        Args:
            pixels: ``(C, *spatial)`` in their own dtype.
            record: What is known of the image.

        Raises:
            ModalityError: If the image is in HU and the modality has no window for HU.
            NonFiniteError: If a percentile is not finite.
        """
        (low, high), origin = self._range(pixels, record)
        if not np.isfinite((low, high)).all():
            msg = f"Intensities must be finite; got a range of {low} to {high} in {record.path}."
            raise NonFiniteError(msg)
        if high <= low:
            high = low + 1.0
        # Hounsfield units stand for tissue, however the file wants them shown.
        inverted = record.inverted and record.unit != "HU"
        shown = (float(high), float(low)) if inverted else (float(low), float(high))
        return replace(record, intensity_range=shown, intensity_origin=origin)

    def _range(
        self, pixels: npt.NDArray[np.generic] | Tensor, record: Image
    ) -> tuple[tuple[float, float], str]:
        """Return the two values, in ascending order, and where they come from."""
        rule = self.rule
        if record.unit == "HU":
            if rule.hounsfield is None:
                msg = f"An image in HU must have a modality with a window; got {record.modality}."
                raise ModalityError(msg)
            return rule.hounsfield, "fixed"
        if rule.file_window and record.window is not None:
            return record.window, "window of the file"
        if rule.fixed is not None:
            return rule.fixed, "fixed"
        array = pixels.numpy(force=True) if isinstance(pixels, Tensor) else np.asarray(pixels)
        if rule.full_uint8 and array.dtype == np.uint8:
            return (0.0, 255.0), "8-bit values as they are"
        of_what = " of nonzero values" if rule.foreground else ""
        found = percentiles_of(array, rule.percentiles, nonzero=rule.foreground)
        return found, percentiles_text(rule.percentiles, of_what)


def percentiles_text(percentiles: tuple[float, float], of_what: str = "") -> str:
    """Return where two percentiles come from, in words."""
    low, high = percentiles
    return f"percentiles {low:g} and {high:g}{of_what}"


def percentiles_of(
    array: npt.NDArray[np.generic], percentiles: tuple[float, float], *, nonzero: bool
) -> tuple[float, float]:
    """Return two percentiles, linearly interpolated, without a float copy of the array.

    Integers of at most 16 bits are not copied at all.

    Args:
        array: Array of any shape, in its own dtype.
        percentiles: Lower and upper, in percent, ascending.
        nonzero: Whether to leave out zeros, unless there is nothing else.
    """
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 2:
        size, value_at = _value_counts(array, nonzero=nonzero)
    else:
        size, value_at = _partitioned(array, percentiles, nonzero=nonzero)
    if size == 0:
        return 0.0, 0.0
    ranks = [percent / 100.0 * (size - 1) for percent in percentiles]
    low, high = (
        below + (rank - int(rank)) * (value_at(min(int(rank) + 1, size - 1)) - below)
        for rank, below in ((rank, value_at(int(rank))) for rank in ranks)
    )
    return low, high


_ValueAt = Callable[[int], float]
"""Function from a rank, counted from 0, to the value at that rank."""


def _value_counts(array: npt.NDArray[np.generic], *, nonzero: bool) -> tuple[int, _ValueAt]:
    """Count the values of at most 16 bits, piece by piece: no second volume, no sorting."""
    least = int(np.iinfo(array.dtype).min)  # type: ignore[type-var]  # of integers
    counts = np.zeros(2 ** (8 * array.dtype.itemsize), dtype=np.int64)
    pieces = np.nditer(
        array, flags=["external_loop", "buffered", "zerosize_ok"], order="K", buffersize=_PIECE
    )
    for piece in pieces:
        counts += np.bincount(np.asarray(piece, dtype=np.int64) - least, minlength=counts.size)
    if nonzero:
        counts[-least] = 0
    below = np.cumsum(counts)
    return int(below[-1]), lambda rank: float(np.searchsorted(below, rank, side="right") + least)


_PIECE = 2**20


def _partitioned(
    array: npt.NDArray[np.generic], percentiles: tuple[float, float], *, nonzero: bool
) -> tuple[int, _ValueAt]:
    """Partition the values so that those at the ranks asked for are in place."""
    values = array[array != 0] if nonzero else array.flatten()
    if values.size:
        ranks = [int(percent / 100.0 * (values.size - 1)) for percent in percentiles]
        values.partition(sorted({min(rank + k, values.size - 1) for rank in ranks for k in (0, 1)}))
    return values.size, lambda rank: float(values[rank])
