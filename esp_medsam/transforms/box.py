"""Crops of slices to a box that is known."""

from __future__ import annotations

from collections.abc import Sequence

from monai.transforms import SpatialCrop

from esp_medsam.transforms.dictionary import dictionary_form


class CropToBox(SpatialCrop):
    """Crop a slice to a box that was measured; ``inverse`` puts it back among zeros.

    Args:
        rows: First row and the one after the last, as shown.
        columns: First column and the one after the last, as shown.
    """

    def __init__(self, *, rows: Sequence[int], columns: Sequence[int]) -> None:
        super().__init__(roi_start=(rows[0], columns[0]), roi_end=(rows[1], columns[1]))


CropToBoxd = dictionary_form(CropToBox)
