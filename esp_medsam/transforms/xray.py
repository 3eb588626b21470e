"""Radiographs: the window stated in the file, and the border left by the collimator.

If low values are shown as white (MONOCHROME1), the measured values are swapped.
:class:`~esp_medsam.transforms.clahe.Clahe` equalizes the contrast.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from esp_medsam.image import Image
from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.intensity import percentiles_of, percentiles_text
from esp_medsam.transforms.options import number_option, percentiles_option
from esp_medsam.transforms.slices import Box, CropToFound, as_float, luminance


_LEAST_KEPT = 0.3
"""Smallest fraction of rows and of columns that a collimator leaves; less means no border."""


class MeasureWindow:
    """Use the window stated in the file if it shows anything.

    A window's limits come from its center ``c`` and width ``w``: ``c - 0.5 - (w - 1) / 2`` and
    ``c - 0.5 + (w - 1) / 2`` (LINEAR), or ``c - w / 2`` and ``c + w / 2`` (LINEAR_EXACT). Some
    files state a window for other pixels: if less than ``least`` of the pixels lie inside it, two
    percentiles replace it, with a warning. Without a window, the record stays as it is.

    Args:
        least: Fraction of the pixels that must lie strictly between the limits.
        percentiles: Lower and upper percentile, in percent.

    Reference:
        DICOM PS3.3 C.11.2.1.2, Window Center and Window Width.
    """

    def __init__(
        self, *, least: float = 0.05, percentiles: tuple[float, float] = (0.5, 99.5)
    ) -> None:
        self.least = number_option("least", least, least=0.0, most=1.0)
        self.percentiles = percentiles_option("percentiles", percentiles)

    def __call__(self, pixels: npt.NDArray[np.generic] | Tensor, record: Image) -> Image:
        """Return the record with ``intensity_range``; the pixels are left alone."""
        if record.window is None:
            return record
        array = pixels.numpy(force=True) if isinstance(pixels, Tensor) else np.asarray(pixels)
        low, high = record.window
        origin = "window of the file"
        inside = np.greater(array, low) & np.less(array, high)
        # Two values, such as those of a mask, lie outside any window that ends at them.
        if inside.mean() < self.least and np.unique(array[:, ::4, ::4]).size > 2:
            low, high = percentiles_of(array, self.percentiles, nonzero=False)
            origin = percentiles_text(self.percentiles)
            warning = (
                f"The window in the header shows less than {100 * self.least:g} % of the "
                "pixels; percentiles were used instead."
            )
            record = replace(record, warnings=(*record.warnings, warning))
        if high <= low:
            high = low + 1.0
        shown = (high, low) if record.inverted else (low, high)
        return replace(record, intensity_range=shown, intensity_origin=origin)


class CropCollimation(CropToFound):
    """Crop a radiograph to the area the collimator left open; ``inverse`` restores the size.

    Rows or columns are removed from each side as long as nearly all of their pixels are within
    ``tolerance`` of that side's own level, the median of its outermost hundredth: leaves of a
    collimator, or a shutter laid over them, black or white. Anatomy or text ends the border. If
    less than 30 % of the rows or columns would be left, there is no border, and the whole image
    stays. Rotated leaves are cropped up to their first corner.

    Args:
        tolerance: Largest difference from the level, in 0..1.
        uniform: Fraction of a row or column that must be within the tolerance.
    """

    def __init__(self, *, tolerance: float = 0.04, uniform: float = 0.98) -> None:
        super().__init__()
        self.tolerance = number_option("tolerance", tolerance, least=0.0, most=1.0)
        self.uniform = number_option("uniform", uniform, above=0.0, most=1.0)

    def find(self, img: Tensor) -> Box:
        """Return the rows and columns inside the border of ``(C, rows, columns)`` in 0..1."""
        values = luminance(as_float(img))
        box = []
        for side in (values, values.T):
            size = int(side.shape[0])
            start, stop = self._border(side), size - self._border(side.flip(0))
            if stop - start < _LEAST_KEPT * size:
                return slice(0, int(values.shape[0])), slice(0, int(values.shape[1]))
            box.append(slice(start, stop))
        return box[0], box[1]

    def _border(self, values: Tensor) -> int:
        """Return the number of border rows, counted from the first row."""
        level = values[: max(1, values.shape[0] // 100)].median()
        near = (values - level).abs_() <= self.tolerance
        border = near.mean(dim=1, dtype=torch.float32) >= self.uniform
        return int(border.long().cumprod(0).sum())


CropCollimationd = dictionary_form(CropCollimation)
