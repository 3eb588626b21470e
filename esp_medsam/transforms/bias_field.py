"""Correct MRI coil shading: N4 estimates it once per volume, and each slice is divided by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK
import torch
import torch.nn.functional as F
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.image import Image
from esp_medsam.orientation import Display
from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.mri import Pixels, as_array, require_finite
from esp_medsam.transforms.slices import SliceTransform


sitk: Any = SimpleITK  # only partly typed, so each call would need an exception


@dataclass(frozen=True, eq=False)
class BiasField:
    """The coil shading of a volume: a smooth field that multiplies the signal of the tissue.

    Attributes:
        log: Natural logarithm of the field on a coarse grid, float32, one axis per array axis. Its
            first and last points lie at the centers of the first and last voxels, and it is linear
            between points.
    """

    log: npt.NDArray[np.float32]

    def for_slice(self, display: Display, index: int, count: int) -> ApplyBiasField:
        """Return the transform that removes the shading from one slice."""
        return ApplyBiasField(self.shown(display, index, count))

    def shown(self, display: Display, index: int, count: int) -> npt.NDArray[np.float32]:
        """Return the coarse log field ``(rows, columns)`` of one slice, oriented as shown.

        Args:
            display: How slices are taken and oriented.
            index: Index of the slice.
            count: Number of slices.
        """
        log: npt.NDArray[Any] = self.log
        if display.slice_axis is not None:
            points = log.shape[display.slice_axis]
            place = index * (points - 1) / max(1, count - 1)
            below = min(int(place), points - 1)
            above = min(below + 1, points - 1)
            first, second = (log.take(p, axis=display.slice_axis) for p in (below, above))
            log = first + (place - below) * (second - first)
        return np.ascontiguousarray(display.turn(log), dtype=np.float32)


class MeasureBiasField:
    """Estimate the coil shading by N4, on at most ``grid`` points along each axis.

    N4 uses the voxels above Otsu's threshold. The field is shifted so that the mean of its
    logarithm over them is 0, which keeps the overall intensity. N4 runs on one thread, because the
    last bits of its sums depend on the number of threads. The field is all ones for constant images
    and for images with fewer than four voxels along an axis that has more than one.

    Args:
        grid: Voxels along an axis that the field is fitted to.
        iterations: Largest number at each level; each level halves the distance of the control
            points, which starts at one span across the volume.

    Reference:
        Tustison et al., "N4ITK: Improved N3 Bias Correction", 2010, doi:10.1109/TMI.2010.2046908;
        SimpleITK's N4BiasFieldCorrectionImageFilter.
    """

    def __init__(self, *, grid: int = 28, iterations: Sequence[int] = (20, 20, 20)) -> None:
        if grid < 8:
            msg = f"grid must be at least 8 voxels; got {grid}."
            raise OptionError(msg)
        self.grid = int(grid)
        self.iterations = [int(count) for count in iterations]

    def __call__(self, pixels: Pixels, record: Image) -> BiasField:
        """Return the field; the pixels are left alone.

        Args:
            pixels: ``(C, *spatial)`` in their own unit; only the first channel is used.
            record: What is known of the image.

        Raises:
            NonFiniteError: If the pixels are not finite.
        """
        array = as_array(pixels)[0]
        # Rounded positions rather than every n-th voxel, so that the field spans the whole volume.
        places = [
            np.unique(np.linspace(0, side - 1, min(side, self.grid)).round().astype(int))
            for side in array.shape
        ]
        small = array[np.ix_(*places)].astype(np.float32)
        require_finite(record, small)
        flat = small.squeeze()
        if flat.ndim < 2 or min(flat.shape) < 4 or flat.min() == flat.max():
            return BiasField(np.zeros(small.shape, np.float32))
        image = sitk.GetImageFromArray(flat)
        mask = sitk.And(sitk.OtsuThreshold(image, 0, 1), image > 0)
        inside = sitk.GetArrayViewFromImage(mask) > 0
        if inside.mean() < 0.01:
            return BiasField(np.zeros(small.shape, np.float32))
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetNumberOfThreads(1)
        n4.SetNumberOfWorkUnits(1)
        n4.SetMaximumNumberOfIterations(self.iterations)
        n4.Execute(image, mask)
        log = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).astype(np.float32)
        return BiasField((log - log[inside].mean()).reshape(small.shape))


class ApplyBiasField(SliceTransform):
    """Divide a slice by its shading: ``v / exp(log)``, with ``log`` linear between its points.

    :meth:`BiasField.shown` is linear across slices, so the result is trilinear in the volume.

    Args:
        log: Coarse log field ``(rows, columns)`` of the slice; its first and last points lie at the
            centers of the first and last pixels.
    """

    native = True

    def __init__(self, log: npt.ArrayLike) -> None:
        self.log = np.ascontiguousarray(log, dtype=np.float32)
        if self.log.ndim != 2:
            msg = f"log must be (rows, columns); got {self.log.shape}."
            raise ValueError(msg)

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice without its shading."""
        log = torch.from_numpy(self.log).to(image.device)[None, None]
        size = (int(image.shape[-2]), int(image.shape[-1]))
        full = F.interpolate(log, size=size, mode="bilinear", align_corners=True)[0]
        return image * full.neg_().exp_()


ApplyBiasFieldd = dictionary_form(ApplyBiasField)
