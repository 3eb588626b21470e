"""Masks of a series from DICOM-SEG and RT Structure Sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from esp_medsam.dicom.dicom_file import is_dicom
from esp_medsam.dicom.label_choice import chosen_numbers
from esp_medsam.dicom.regions_on_series import RegionsOnSeries
from esp_medsam.dicom.seg.read.on_series import SegmentsOnSeries
from esp_medsam.dicom.seg.read.reader import is_segmentation
from esp_medsam.dicom.structure_set import is_structure_set
from esp_medsam.image import Image
from esp_medsam.modality import Target


def labels_series(path: str | Path) -> bool:
    """Whether a file is a DICOM-SEG, or an RT Structure Set.

    Raises:
        EspMedSamError: If it is DICOM but cannot be read far enough to tell.
    """
    return is_dicom(path) and (is_segmentation(path) or is_structure_set(path))


class SeriesLabels:
    """A label file of a series, read once for all requests.

    Args:
        path: A file for which :func:`labels_series` is true.
        image: Record of the series.

    Raises:
        GeometryError: If the file does not belong to the series.
        EspMedSamError: If the file cannot be read.
    """

    def __init__(self, path: str, image: Image) -> None:
        self.path = path
        self.image = image
        self._drawn: SegmentsOnSeries | RegionsOnSeries
        if is_segmentation(path):
            self._drawn = SegmentsOnSeries(path, image)
        else:
            self._drawn = RegionsOnSeries(path, image)

    def mask(
        self,
        *,
        values: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        target: Target | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Return the union of the chosen segments or regions, ``(*spatial)`` of the series.

        Args:
            values: Numbers of segments or regions.
            names: Their names, if no numbers are given.
            target: Target whose codes one of them has, if neither is given.

        Raises:
            OptionError: If a chosen segment or region is missing or occurs twice.
            GeometryError: If it does not lie on the series.
            EspMedSamError: If it cannot be read.
        """
        held = self._drawn.held
        union = np.zeros(self.image.grid.shape, dtype=np.bool_)
        for number in chosen_numbers(self.path, held, values=values, names=names, target=target):
            union |= self._drawn.mask(number)
        return union
