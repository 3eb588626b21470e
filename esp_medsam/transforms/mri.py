"""MRI: which intensities (they have no unit) are shown as 0 and 1.

Whole-volume values are measured once, on a sample of the volume; slices are changed one by one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from esp_medsam.errors import NonFiniteError
from esp_medsam.image import Image
from esp_medsam.transforms.intensity import percentiles_text
from esp_medsam.transforms.options import number_option, percentiles_option


Pixels = npt.NDArray[np.generic] | Tensor

_SAMPLES = 2**21
"""Largest number of voxels that statistics are computed from."""

_AIR = 0.05
"""Fraction of the range from the darkest voxel to the 99th percentile that is air and noise."""


class MeasurePercentiles:
    """Find the values shown as 0 and 1: two percentiles of the foreground.

    The foreground (:func:`foreground`) leaves out air and its noise, however much there is.

    Args:
        percentiles: Lower and upper, in percent.
    """

    def __init__(self, *, percentiles: tuple[float, float] = (0.5, 99.5)) -> None:
        self.percentiles = percentiles_option("percentiles", percentiles)

    def __call__(self, pixels: Pixels, record: Image) -> Image:
        """Return the record with ``intensity_range``; the pixels are left alone."""
        low, high = np.percentile(foreground(pixels), self.percentiles)
        origin = percentiles_text(self.percentiles, " of the foreground")
        return _with_range(record, float(low), float(high), origin)


class MeasureZScore:
    """Find the values shown as 0 and 1: ``mean - k * sd`` and ``mean + k * sd`` of the foreground.

    The image then shows the z-score, clipped to ``-k..k`` and mapped to 0..1, so tissue of mean
    intensity is 0.5. Air is not 0 in this case.

    Args:
        k: Standard deviations on each side of the mean.
    """

    def __init__(self, *, k: float = 3.0) -> None:
        self.k = number_option("k", k, above=0.0)

    def __call__(self, pixels: Pixels, record: Image) -> Image:
        """Return the record with ``intensity_range``; the pixels are left alone."""
        values = foreground(pixels)
        mean, reach = float(values.mean()), self.k * float(values.std())
        origin = f"mean - {self.k:g} sd to mean + {self.k:g} sd of the foreground"
        return _with_range(record, mean - reach, mean + reach, origin)


def foreground(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Return a sample of a volume's tissue, never empty.

    The sample holds every n-th voxel, two million at most, if it lies above 5 % of the way from the
    darkest to the 99th percentile of those above the darkest: above air and its noise, wherever
    they are and if there are any. Otsu's threshold would split the tissue in volumes without air.

    Args:
        pixels: ``(C, *spatial)`` in their own unit.
    """
    array = as_array(pixels)
    step = max(1, round((array.size / _SAMPLES) ** (1.0 / max(1, array.ndim - 1))))
    thinned = (slice(None), *[slice(None, None, step)] * (array.ndim - 1))
    values = array[thinned].ravel().astype(np.float32)
    darkest = values.min()
    lit = values[values > darkest]
    if not lit.size:
        return values
    tissue: npt.NDArray[np.float32] = lit[lit > darkest + _AIR * (np.percentile(lit, 99) - darkest)]
    return tissue if tissue.size else lit


def as_array(pixels: Pixels) -> npt.NDArray[np.generic]:
    """Return pixels as an array, without a copy if they are on the CPU."""
    return pixels.numpy(force=True) if isinstance(pixels, Tensor) else np.asarray(pixels)


def require_finite(record: Image, values: npt.NDArray[np.floating]) -> None:
    """Refuse measurements on an image that holds NaN or infinity.

    Raises:
        NonFiniteError: If a value is not finite.
    """
    if not np.isfinite(values).all():
        msg = f"Intensities must be finite; got NaN or infinity in {record.path}."
        raise NonFiniteError(msg)


def _with_range(record: Image, low: float, high: float, origin: str) -> Image:
    """Return the record with a range that is finite and not empty."""
    require_finite(record, np.array((low, high)))
    if high <= low:
        high = low + 1.0
    shown = (high, low) if record.inverted else (low, high)
    return replace(record, intensity_range=shown, intensity_origin=origin)
