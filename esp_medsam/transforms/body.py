"""Find the body in a CT, without the table: crop to it, or set everything else to air."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.config.type_definitions import NdarrayOrTensor
from monai.data import MetaTensor
from scipy import ndimage  # type: ignore[import-untyped]  # ships no types
from skimage.measure import label
from torch import Tensor

from esp_medsam.image import Image
from esp_medsam.orientation import Display
from esp_medsam.transforms.box import CropToBox
from esp_medsam.transforms.ct import AIR, require_hounsfield
from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.options import number_option
from esp_medsam.transforms.slices import SliceTransform, as_float, record_of


_GRID_MM = 4.0
"""Step of the grid on which the body is sought: about a tenth of the thinnest limb."""

_OPENING_MM = 6.0
"""Half the thickness below which a structure is a table, tube or blanket rather than the body."""

_LEAST_SHARE = 0.01
"""Fraction of the largest component from which others are body too: the other leg, an arm."""

_MOST_BORDER = 0.25
"""Fraction of a slice's border that the body must touch for the slice to lie inside the body."""


@dataclass(frozen=True, eq=False)
class BodyBox:
    """Where the body lies in a volume; slices are cropped to it.

    Attributes:
        box: ``(axes, 2)``, start and stop along each array axis.
        spatial_shape: Voxels along each axis.
    """

    box: npt.NDArray[np.int64]
    spatial_shape: tuple[int, ...]

    def for_slice(self, display: Display, index: int, count: int) -> CropToBox:
        """Return the crop, the same for every slice as shown."""
        del index, count
        rows, columns = box_as_shown(self.box, display, self.spatial_shape)
        return CropToBox(rows=rows, columns=columns)


class MeasureBody:
    """Find the box around the body in a volume of HU, leaving out the table.

    On a grid of about 4 mm, voxels denser than the threshold are opened by 6 mm, which removes
    tables, tubes and blankets. The body is the largest component and those of at least 1 % of its
    size (the other leg, an arm). Holes are not filled, because they do not change the box.

    Args:
        threshold: HU above which a voxel is dense; skin and fat are, air and foam are not.
        margin: Margin added on each side, mm.
    """

    def __init__(self, *, threshold: float = -400.0, margin: float = 8.0) -> None:
        self.threshold = number_option("threshold", threshold)
        self.margin = number_option("margin", margin, least=0.0)

    def __call__(self, pixels: npt.NDArray[np.generic] | Tensor, record: Image) -> BodyBox:
        """Return the box, which is the whole volume if no body is found.

        Args:
            pixels: ``(1, *spatial)`` in HU.
            record: What is known of the image; its spacing is used, or 1 mm if it has none.

        Raises:
            OptionError: If the pixels are not in HU.
        """
        require_hounsfield(record, type(self).__name__)
        array = pixels.numpy(force=True) if isinstance(pixels, Tensor) else np.asarray(pixels)
        shape = array.shape[1:]
        spacing = record.grid.spacing or (1.0,) * len(shape)
        small, steps = _thinned(array[0], spacing)
        body = _body(
            np.greater(small, self.threshold),
            [s * mm for s, mm in zip(steps, spacing, strict=True)],
        )
        box = np.array([(0, size) for size in shape], dtype=np.int64)
        if not body.any():
            return BodyBox(box, shape)
        for axis, (size, step, mm) in enumerate(zip(shape, steps, spacing, strict=True)):
            others = tuple(other for other in range(body.ndim) if other != axis)
            (places,) = np.nonzero(body.any(axis=others))
            # A voxel of the thinned grid stands for its neighbors up to the next one.
            reach = step - 1 + round(self.margin / mm)
            box[axis] = (
                max(0, int(places[0]) * step - reach),
                min(size, int(places[-1]) * step + reach + 1),
            )
        return BodyBox(box, shape)


class TableRemoval(SliceTransform):
    """Set everything outside the body to air, slice by slice.

    The body is found as in :class:`MeasureBody`, but within the one slice, with holes (lung, bowel)
    filled and a margin of one grid step. Nothing is removed if no body is found, or if the body
    touches a quarter of the border: such a slice lies inside the body, and a part that is cut off
    from the rest may be a lung.

    Computed on the CPU.

    The spacing is the slice's own: ``pixdim`` of a MetaTensor, and 1 mm for other arrays.

    Args:
        threshold: HU above which a pixel is dense.
        air: HU that replaces what is removed.

    Raises:
        OptionError: If the slice has a record that does not state HU.
    """

    native = True

    def __init__(self, *, threshold: float = -400.0, air: float = AIR) -> None:
        self.threshold = number_option("threshold", threshold)
        self.air = number_option("air", air)

    def changed(self, img: NdarrayOrTensor) -> Tensor:
        """Return the slice with air around the body."""
        require_hounsfield(record_of(img), type(self).__name__)
        spacing = img.pixdim[:2].tolist() if isinstance(img, MetaTensor) else (1.0, 1.0)
        return self.apply(as_float(img), spacing)

    def apply(self, image: Tensor, spacing: Sequence[float] = (1.0, 1.0)) -> Tensor:
        """Return the slice with air around the body.

        Args:
            image: ``(C, rows, columns)`` in HU.
            spacing: Distance between rows and between columns, mm.
        """
        kept = torch.from_numpy(self.mask(image, spacing)).to(image.device)
        return torch.where(kept, image, image.new_tensor(self.air))

    def mask(self, image: Tensor, spacing: Sequence[float]) -> npt.NDArray[np.bool_]:
        """Return the body mask ``(rows, columns)`` of HU ``(C, rows, columns)``."""
        array = image[0].numpy(force=True)
        small, steps = _thinned(array, spacing)
        step_mm = [step * mm for step, mm in zip(steps, spacing, strict=True)]
        body = _body(np.greater(small, self.threshold), step_mm)
        if not body.any() or _border(body).mean() > _MOST_BORDER:
            return np.ones(array.shape, dtype=bool)
        body = ndimage.binary_dilation(ndimage.binary_fill_holes(body), np.ones((3, 3)))
        full = body.repeat(steps[0], axis=0).repeat(steps[1], axis=1)
        mask: npt.NDArray[np.bool_] = full[: array.shape[0], : array.shape[1]]
        return mask


TableRemovald = dictionary_form(TableRemoval)


def box_as_shown(
    box: npt.NDArray[np.int64], display: Display, spatial_shape: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the rows and columns, start and stop, that a box covers in the slices as shown.

    Args:
        box: ``(axes, 2)``, start and stop along each array axis.
        display: How slices are taken and oriented.
        spatial_shape: Voxels along each axis.
    """
    starts, stops = display.shown(box[:, 0].tolist()), display.shown(box[:, 1].tolist())
    sides = display.shown(spatial_shape)
    flips = (display.flip_rows, display.flip_columns)
    rows, columns = (
        (int(side - stop), int(side - start)) if flip else (int(start), int(stop))
        for start, stop, side, flip in zip(starts, stops, sides, flips, strict=True)
    )
    return rows, columns


def _thinned(
    array: npt.NDArray[np.generic], spacing: Sequence[float]
) -> tuple[npt.NDArray[np.generic], list[int]]:
    """Return every n-th voxel along each axis, about 4 mm apart, and the steps."""
    steps = [max(1, round(_GRID_MM / mm)) for mm in spacing]
    return array[tuple(slice(None, None, step) for step in steps)], steps


def _body(dense: npt.NDArray[np.bool_], step_mm: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Return the voxels of the body among the dense ones."""
    times = max(1, round(_OPENING_MM / min(step_mm)))
    # The body goes on beyond the border, so nothing is eroded from there.
    core = ndimage.binary_erosion(dense, iterations=times, border_value=1)
    components = label(core, connectivity=1)  # type: ignore[no-untyped-call]
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    body = ((sizes > 0) & (sizes >= _LEAST_SHARE * sizes.max()))[components]
    # Dilating two steps further than eroded restores skin and corners rounded off by the opening.
    grown = ndimage.binary_dilation(body, iterations=times + 1)
    mask: npt.NDArray[np.bool_] = grown & dense
    return mask


def _border(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the values along the border of a slice."""
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
