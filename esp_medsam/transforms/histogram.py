"""Standardize MRI intensities to a scale learned from a dataset (Nyul)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from esp_medsam.errors import InputNotFoundError, OptionError
from esp_medsam.image import Image
from esp_medsam.orientation import Display
from esp_medsam.plain_data import read_json
from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.mri import Pixels, foreground, require_finite
from esp_medsam.transforms.slices import SliceTransform


DECILES = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
"""Landmarks of Nyul et al., in percent of the foreground."""


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
    def read(cls, path: str | Path) -> StandardScale:
        """Return the scale that a file holds, as :meth:`to_json` wrote it.

        Raises:
            InputNotFoundError: If there is no such file.
            OptionError: If it holds something else.
        """
        try:
            content = read_json(Path(path), most_bytes=_MOST_BYTES)
            lists = (content["percentiles"], content["scale"])
            percentiles, scale = (tuple(float(value) for value in values) for values in lists)
        except FileNotFoundError as error:
            msg = f"scale must be the JSON file of a standard scale; there is no {path}."
            raise InputNotFoundError(msg) from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            msg = f"scale must be JSON of percentiles and scale; {path} is not."
            raise OptionError(msg) from error
        return cls(percentiles=percentiles, scale=scale)


_MOST_BYTES = 2**16
"""Of the file of a scale at most; a hundred landmarks take some 4 kB."""


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
        scale: The scale, learned from a set, or the JSON file that it is kept in.
    """

    def __init__(self, scale: StandardScale | str | Path) -> None:
        self.scale = scale if isinstance(scale, StandardScale) else StandardScale.read(scale)

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

    native = True
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
