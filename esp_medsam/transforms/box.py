"""Crops of slices to one box: a box that is known, or one for a whole stack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monai.transforms import SpatialCrop
from torch import Tensor

from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.slices import CropToFound


_SEEN = 0.1
"""Difference of a slice's ends, in 0..1, below which it shows nothing to find a box in."""


class CropToBox(SpatialCrop):
    """Crop a slice to a box that was measured; ``inverse`` puts it back among zeros.

    Args:
        rows: First row and the one after the last, as shown.
        columns: First column and the one after the last, as shown.
    """

    def __init__(self, *, rows: Sequence[int], columns: Sequence[int]) -> None:
        super().__init__(roi_start=(rows[0], columns[0]), roi_end=(rows[1], columns[1]))


CropToBoxd = dictionary_form(CropToBox)


def crop_of_stack(crop: CropToFound, slices: Iterable[Tensor]) -> CropToFound | CropToBox:
    """Return what crops every slice of a stack alike: to the box around those found in its slices.

    Found slice by slice, boxes would jitter with the picture: frames of a cine would come out in
    different scales, and what one shows at its edge the next would lose. Slices that show nothing,
    such as black frames, have no say; one that is in doubt keeps all slices whole, as alone.

    Args:
        crop: What finds a box in a slice.
        slices: Of the stack, ``(C, rows, columns)`` in 0..1.

    Returns:
        The crop to that box; ``crop`` itself where slices differ in size, or all show nothing.
    """
    boxes, sizes = [], set()
    for image in slices:
        sizes.add(tuple(image.shape[-2:]))
        if image.max() - image.min() >= _SEEN:
            boxes.append(crop.find(image))
    if not boxes or len(sizes) > 1:
        return crop
    rows, columns = (
        (min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes))
        for axis in (0, 1)
    )
    return CropToBox(rows=rows, columns=columns)
