"""Prepare slices for the network, and put their masks back into place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.image import IMAGE_KEY, Image, modality_of
from esp_medsam.orientation import Display, display_of_image
from esp_medsam.transforms.box import crop_of_stack
from esp_medsam.transforms.by_modality import ModalityTransforms, SliceStep, transforms_of
from esp_medsam.transforms.slices import CropToFound


_MOST_SEARCHED = 32
"""Number of evenly spread slices of a stack in which the box of a crop is sought."""


class View(NamedTuple):
    """The part of a slice that the network is to see.

    Attributes:
        pixels: ``(C, rows, columns)``, in the image's dtype, or float32 if a transform was applied.
        intensity_range: The values to be shown as 0 and 1.
        box: Position of the view in the slice as shown: ``(rows, columns)``.
        shape: Rows and columns of the whole slice as shown.
    """

    pixels: Tensor
    intensity_range: tuple[float, float]
    box: tuple[slice, slice]
    shape: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the view."""
        return int(self.pixels.shape[-2]), int(self.pixels.shape[-1])

    def put_back(self, values: Tensor) -> Tensor:
        """Return the view's ``(T, rows, columns)`` on the whole slice, with zeros around it."""
        if self.size == self.shape:
            return values
        whole = values.new_zeros((*values.shape[:-2], *self.shape))
        whole[..., self.box[0], self.box[1]] = values
        return whole


class Slices:
    """The slices of one image, prepared by the transforms of its modality.

    Args:
        pixels: ``(C, *spatial)`` in the image's own dtype.
        record: What is known of the image and was measured on it.
        transforms: Transforms by modality that replace the defaults.
        slice_axis: For volumes, ``axial``, ``coronal`` or ``sagittal`` instead of the rule.

    Raises:
        OptionError: If the intensities were not measured.
        GeometryError: If the image cannot be sliced along that axis.
    """

    def __init__(
        self,
        pixels: Tensor,
        record: Image,
        *,
        transforms: Mapping[str, ModalityTransforms] | None = None,
        slice_axis: str | None = None,
    ) -> None:
        if record.intensity_range is None:
            msg = "preprocessing must measure the intensities (MeasureImaged); got none."
            raise OptionError(msg)
        self.pixels = pixels
        self.intensity_range = record.intensity_range
        self.display: Display = display_of_image(record, slice_axis)
        spacing = record.grid.spacing
        self.spacing = None if spacing is None else self.display.shown(spacing)
        self.transforms = transforms_of(modality_of(record), transforms)
        self.record = record

    def __len__(self) -> int:
        """Return the number of slices."""
        return self.display.count(self.pixels.shape[1:])

    def __getitem__(self, index: int) -> View:
        """Return a slice as the network is to see it, before scaling."""
        pixels = self.display.show(self.pixels, index)
        shape = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        if not self.record.measured and not self.transforms.native and not self.transforms.shown:
            whole = (slice(0, shape[0]), slice(0, shape[1]))
            return View(pixels, self.intensity_range, whole, shape)
        values = self._prepared_slice(index, self.shown)
        return View(values.as_tensor(), (0.0, 1.0), _box(values, shape, self.transforms), shape)

    @cached_property
    def shown(self) -> Sequence[SliceStep]:
        """Steps applied to every slice after the window.

        If a crop depends on what is found, it is found once for the whole stack; otherwise its box
        would jitter from frame to frame.
        """
        count = len(self)
        steps: list[SliceStep] = []
        for step in self.transforms.shown:
            if isinstance(step, CropToFound) and count > 1:
                places = np.linspace(0, count - 1, min(count, _MOST_SEARCHED)).round().astype(int)
                slices = (self._prepared_slice(int(place), steps) for place in places)
                step = crop_of_stack(step, slices)
            steps.append(step)
        return steps

    def _prepared_slice(self, index: int, shown: Sequence[SliceStep]) -> MetaTensor:
        """Return a slice in 0..1 after the window and the steps ``shown`` that follow it."""
        native = [m.for_slice(self.display, index, len(self)) for m in self.record.measured]
        native += self.transforms.native
        # Transforms may use what the file states: spacing, unit, regions of an ultrasound machine.
        values: Any = MetaTensor(
            self.display.show(self.pixels, index).float(),
            affine=torch.diag(torch.tensor([*(self.spacing or (1.0, 1.0)), 1.0, 1.0])),
            meta={IMAGE_KEY: self.record},
        )
        for transform in native:
            values = transform(values)
        low, high = self.intensity_range
        if not any(getattr(transform, "shows", False) for transform in native):
            values = ((values - low) / (high - low)).clamp(0.0, 1.0)
        for transform in shown:
            values = transform(values)
        prepared: MetaTensor = values
        return prepared


def empty_by_slice(display: Display, channels: int, shape: Sequence[int]) -> Tensor:
    """Return an array whose memory holds slice after slice, row by row as shown.

    Writing a slice along the last axis of a plain array would touch a line of cache for each byte.
    NIfTI has the same order in its files.

    Args:
        display: How slices are taken and shown.
        channels: Number of channels.
        shape: Voxels along each axis.

    Returns:
        uint8 ``(C, *shape)``, not initialized.
    """
    axis = display.slice_axis
    if axis is None:
        return torch.empty((channels, *shape), dtype=torch.uint8)
    within = [each for each in range(len(shape)) if each != axis]
    order = [axis, *(reversed(within) if display.transpose else within)]
    memory = torch.empty((channels, *(shape[each] for each in order)), dtype=torch.uint8)
    return memory.permute(0, *(1 + order.index(each) for each in range(len(shape))))


def _box(
    values: MetaTensor, shape: tuple[int, int], transforms: ModalityTransforms
) -> tuple[slice, slice]:
    """Return the part of the slice that is left after the crops MONAI recorded in ``values``."""
    first, last = [0, 0], list(shape)
    for operation in values.applied_operations:
        cropped = operation.get("extra_info", {}).get("cropped")
        if cropped is None:
            msg = f"Transforms of slices may crop, but not move pixels otherwise; got {transforms}."
            raise OptionError(msg)
        for axis in range(2):
            first[axis] += int(cropped[2 * axis])
            last[axis] -= int(cropped[2 * axis + 1])
    box = (slice(first[0], last[0]), slice(first[1], last[1]))
    if tuple(values.shape[-2:]) != (last[0] - first[0], last[1] - first[1]):
        msg = (
            "Transforms of slices must record their crops as MONAI's transforms do; got "
            f"{transforms}."
        )
        raise OptionError(msg)
    return box
