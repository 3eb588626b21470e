"""MRI: intensities, which have no unit, brought to one scale. Shading is in ``bias_field``.

What concerns the whole volume is measured once, on a sample of it; slices are changed one by one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esp_medsam.errors import NonFiniteError, OptionError
from esp_medsam.image import Image
from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.orientation import Display
from esp_medsam.transforms.slices import SliceTransform


Pixels = npt.NDArray[np.generic] | Tensor

DECILES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
"""Landmarks of Nyul et al., in percent of the foreground."""

_SAMPLES = 2**21
"""Voxels that statistics are taken of, at most."""

_AIR = 0.05
"""Of the way from the darkest voxel to the 99th percentile: below it lie air and noise."""


@dataclass(frozen=True, kw_only=True)
class StandardScale:
    """Where the landmarks of a foreground lie on the scale that all volumes are brought to.

    Attributes:
        percentiles: Landmarks, in percent of the foreground, ascending.
        scale: Of each the place in 0..1, ascending from 0 to 1.

    Raises:
        OptionError: If they are not as long as each other, or do not ascend so.

    Reference:
        Nyul and Udupa, "On standardizing the MR image intensity scale", 1999,
        doi:10.1002/(SICI)1522-2594(199912)42:6<1072::AID-MRM11>3.0.CO;2-M; landmarks as in
        Nyul et al., 2000, doi:10.1109/42.836373.
    """

    percentiles: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        rises = np.diff(self.percentiles).min(initial=0.0) >= 0 and (np.diff(self.scale) >= 0).all()
        inside = self.percentiles and 0 <= self.percentiles[0] < self.percentiles[-1] <= 100
        if len(self.percentiles) != len(self.scale) or not (rises and inside):
            msg = "percentiles must ascend in 0..100, one for each place of the scale; got "
            raise OptionError(msg + f"{self.percentiles} and {self.scale}.")
        if self.scale[0] != 0 or self.scale[-1] != 1:
            msg = f"scale must run from 0 to 1; got {self.scale[0]} to {self.scale[-1]}."
            raise OptionError(msg)

    @classmethod
    def learn(
        cls, volumes: Iterable[Pixels], percentiles: Sequence[float] = DECILES
    ) -> StandardScale:
        """Learn the scale of a set of volumes of one kind (body part, sequence).

        Of each volume the landmarks are mapped linearly, first to 0 and last to 1; the scale is
        their mean.

        Args:
            volumes: ``(C, *spatial)`` each, in any unit; constant ones say nothing.
            percentiles: Landmarks, in percent.

        Raises:
            ValueError: If no volume says anything.
        """
        places = []
        for pixels in volumes:
            marks = np.percentile(foreground(pixels), percentiles)
            if marks[-1] > marks[0]:
                places.append((marks - marks[0]) / (marks[-1] - marks[0]))
        if not places:
            msg = "volumes must hold one that is not constant; got none."
            raise ValueError(msg)
        scale = np.mean(places, axis=0).tolist()
        # The ends are 0 and 1 but for rounding.
        return cls(percentiles=tuple(percentiles), scale=(0.0, *scale[1:-1], 1.0))

    def to_json(self) -> str:
        """Return it as JSON: ``{"percentiles": [...], "scale": [...]}``."""
        return json.dumps({"percentiles": self.percentiles, "scale": self.scale}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> StandardScale:
        """Return what :meth:`to_json` wrote.

        Raises:
            OptionError: If it is something else.
        """
        try:
            data = json.loads(text)
            lists = (data["percentiles"], data["scale"])
            percentiles, scale = (tuple(float(value) for value in values) for values in lists)
        except (ValueError, TypeError, KeyError) as error:
            msg = f"A standard scale must be JSON of percentiles and scale; got {error!r}."
            raise OptionError(msg) from error
        return cls(percentiles=percentiles, scale=scale)


class MeasurePercentiles:
    """Find the values shown as 0 and 1: two percentiles of the foreground.

    The foreground (:func:`foreground`) leaves out air and its noise, however much of it there is.

    Args:
        percentiles: Lower and upper, in percent.
    """

    def __init__(self, *, percentiles: tuple[float, float] = (0.5, 99.5)) -> None:
        self.percentiles = _ascending("percentiles", percentiles, 0.0, 100.0)

    def __call__(self, pixels: Pixels, record: Image) -> Image:
        """Return the record with ``intensity_range``; the pixels are left alone."""
        low, high = np.percentile(foreground(pixels), self.percentiles)
        return _with_range(record, float(low), float(high))


class MeasureZScore:
    """Find the values shown as 0 and 1: ``mean - k * sd`` and ``mean + k * sd`` of the foreground.

    What is shown is the z-score, clipped to ``-k..k`` and laid over 0..1, so that tissue of mean
    intensity is 0.5. Air is not 0 then.

    Args:
        k: Standard deviations on each side of the mean.
    """

    def __init__(self, *, k: float = 3.0) -> None:
        if not k > 0:
            msg = f"k must be above 0; got {k}."
            raise OptionError(msg)
        self.k = float(k)

    def __call__(self, pixels: Pixels, record: Image) -> Image:
        """Return the record with ``intensity_range``; the pixels are left alone."""
        values = foreground(pixels)
        mean, reach = float(values.mean()), self.k * float(values.std())
        return _with_range(record, mean - reach, mean + reach)


@dataclass(frozen=True)
class HistogramMap:
    """Which values of a volume are shown as the landmarks of a standard scale.

    Attributes:
        points: ``(value, shown)`` of a piecewise linear map, values ascending strictly; ``shown``
            lies in 0..1 and falls where low values are shown white.
    """

    points: tuple[tuple[float, float], ...]

    def for_slice(self, display: Display, index: int, count: int) -> StandardizeHistogram:
        """Return the map, which is the same for every slice."""
        del display, index, count
        return StandardizeHistogram(self.points)


class MeasureHistogram:
    """Find which values of a volume are shown as the landmarks of a standard scale.

    Args:
        scale: The scale, learned from a set.
    """

    def __init__(self, scale: StandardScale) -> None:
        self.scale = scale

    def __call__(self, pixels: Pixels, record: Image) -> HistogramMap:
        """Return the map of this volume.

        Args:
            pixels: ``(C, *spatial)`` in their own unit.
            record: What is known of them.
        """
        marks = np.percentile(foreground(pixels), self.scale.percentiles)
        require_finite(record, marks)
        points: dict[float, float] = {}
        for mark, place in zip(marks.tolist(), self.scale.scale, strict=True):
            points[mark] = 1.0 - place if record.inverted else place
        if len(points) == 1:
            ((value, shown),) = points.items()
            # Constant: shown as 0, as everywhere.
            points = {value: 1.0 - shown, value + 1.0: shown}
        return HistogramMap(tuple(points.items()))


class StandardizeHistogram(SliceTransform):
    """Show the values of a slice by a piecewise linear map; constant beyond its ends.

    Args:
        points: ``(value, shown)``, as :class:`MeasureHistogram` gives them.

    Raises:
        OptionError: If there are fewer than two, or their values do not ascend.
    """

    shows = True

    def __init__(self, points: Sequence[Sequence[float]]) -> None:
        self.points = tuple((float(value), float(shown)) for value, shown in points)
        values = [value for value, _ in self.points]
        if len(values) < 2 or min(np.diff(values)) <= 0:
            msg = f"points must be at least two, with values that ascend; got {points}."
            raise OptionError(msg)

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice in 0..1."""
        values, shown = (image.new_tensor(side) for side in zip(*self.points, strict=True))
        slopes = shown.diff() / values.diff()
        piece = torch.bucketize(image.contiguous(), values[1:-1].contiguous())
        inside = image.clamp(values[0], values[-1])
        result = shown[piece] + (inside - values[piece]) * slopes[piece]
        return result.clamp_(0.0, 1.0)  # rounding leads a little beyond


StandardizeHistogramd = dictionary_form(StandardizeHistogram)


def foreground(pixels: Pixels) -> npt.NDArray[np.float32]:
    """Return a sample of a volume's tissue, never empty.

    Every n-th voxel, two million at most, that is above 5 % of the way from the darkest to the
    99th percentile of those above the darkest: above air and its noise, wherever they are and if
    there are any. Otsu's threshold would split the tissue where a volume holds no air.

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
    """Return pixels as an array, without a copy where they are on the CPU."""
    return pixels.numpy(force=True) if isinstance(pixels, Tensor) else np.asarray(pixels)


def require_finite(record: Image, values: npt.NDArray[np.floating]) -> None:
    """Refuse what was measured on an image that holds NaN or infinity.

    Raises:
        NonFiniteError: If a value is not finite.
    """
    if not np.isfinite(values).all():
        msg = f"Intensities must be finite; got NaN or infinity in {record.path}."
        raise NonFiniteError(msg)


def _with_range(record: Image, low: float, high: float) -> Image:
    """Return the record with a range that is finite and not empty."""
    require_finite(record, np.array((low, high)))
    if high <= low:
        high = low + 1.0
    shown = (high, low) if record.inverted else (low, high)
    return replace(record, intensity_range=shown)


def _ascending(
    name: str, pair: tuple[float, float], least: float, most: float
) -> tuple[float, float]:
    """Check a pair of numbers."""
    low, high = (float(value) for value in pair)
    if not least <= low < high <= most:
        msg = f"{name} must ascend within {least:g} to {most:g}; got {pair}."
        raise OptionError(msg)
    return low, high
