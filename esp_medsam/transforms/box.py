"""Crop slices to a box that is given or shared by a whole stack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

from monai.transforms import SpatialCrop
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.slices import CropToFound


_SEEN = 0.1
"""Range of a slice's values, in 0..1, below which it shows nothing to find a box in."""


class CropToBox(SpatialCrop):
    """Crop a slice to a measured box; ``inverse`` puts it back among zeros.

    Args:
        rows: First row and the one after the last, as shown.
        columns: First column and the one after the last, as shown.

    Raises:
        OptionError: If ``rows`` or ``columns`` is not a pair of ascending whole numbers from 0, or,
            when called, if the slice ends before the box begins.
    """

    def __init__(self, *, rows: Sequence[int], columns: Sequence[int]) -> None:
        given: dict[str, object] = {"rows": rows, "columns": columns}
        for name, pair in given.items():
            ends = list(pair) if isinstance(pair, Sequence) else []
            whole = len(ends) == 2 and all(isinstance(end, Integral) for end in ends)
            if not (whole and 0 <= ends[0] < ends[1]):
                msg = f"{name} must be two ascending whole numbers from 0; got {pair}."
                raise OptionError(msg)
        super().__init__(roi_start=(rows[0], columns[0]), roi_end=(rows[1], columns[1]))

    def __call__(  # type: ignore[override]  # MONAI's Crop takes slices, its subclasses do not
        self, img: Any, lazy: bool | None = None
    ) -> Any:
        """Return the part of a slice ``(C, rows, columns)`` within the box."""
        for axis, (box, length) in enumerate(zip(self.slices[-2:], img.shape[-2:], strict=True)):
            if box.start < length:
                continue
            name = ("rows", "columns")[axis]
            msg = f"{name} must begin before {length}, the length of the slice; got {box.start}."
            raise OptionError(msg)
        return super().__call__(img, lazy=lazy)


CropToBoxd = dictionary_form(CropToBox)


def crop_of_stack(crop: CropToFound, slices: Iterable[Tensor]) -> CropToFound | CropToBox:
    """Return one crop for all slices of a stack: to the box around those found in its slices.

    If boxes were found slice by slice, they would jitter with the picture: frames of a cine would
    differ in scale, and the next frame would lose what this one shows at its edge. Slices that show
    nothing, such as black frames, do not count; one slice in doubt leaves all slices uncropped.

    Args:
        crop: Crop that finds a box in a slice.
        slices: Slices of the stack, ``(C, rows, columns)`` in 0..1.

    Returns:
        The crop to that box; ``crop`` itself if slices differ in size, or all show nothing.
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
