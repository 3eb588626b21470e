"""Fundus photographs: the round field within its black surround, evenly lit.

:class:`~esp_medsam.transforms.clahe.Clahe` equalizes contrast, on the luminance alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.layers import GaussianFilter
from torch import Tensor

from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.field import lit_box, lit_field
from esp_medsam.transforms.options import number_option
from esp_medsam.transforms.slices import (
    Box,
    CropToFound,
    SliceTransform,
    as_float,
)


_COARSE_SIGMA = 3.0
"""Standard deviation of the blur, in pixels of its coarse grid: a finer grid takes only longer."""


class CropToFieldOfView(CropToFound):
    """Crop a fundus photograph to the box of its field; ``inverse`` restores the size.

    The field is the largest lit region inside a dark border, see
    :func:`~esp_medsam.transforms.field.lit_field`; if none is found for sure, nothing is cropped.
    """

    def find(self, img: Tensor) -> Box:
        """Return the box of the field of ``(C, rows, columns)`` in 0..1."""
        return lit_box(as_float(img))


CropToFieldOfViewd = dictionary_form(CropToFieldOfView)


class KeepFieldOfView(SliceTransform):
    """Set everything outside the field to 0: noise, text and the camera's notch."""

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice, black around its field."""
        return image * field_of_view(image)


KeepFieldOfViewd = dictionary_form(KeepFieldOfView)


class SubtractLocalAverage(SliceTransform):
    """Even out light and color inside the field: ``0.5 + gain * (v - mean)``, clipped to 0..1.

    ``mean`` is the mean of the surrounding pixels of the field, for each channel on its own, under
    a Gaussian of a thirtieth of the field's radius. What is darker or bluer than its surroundings
    stays so; the brightness of the surroundings is gone. Pixels outside the field do not count, so
    there is no halo, and stay as they are. The mean is smooth, so a coarser grid is enough for it.

    Args:
        gain: Factor by which the differences are enlarged.
        spread: Standard deviation of the Gaussian, relative to the field's radius.

    Raises:
        OptionError: If an option is not above 0.

    Reference:
        Graham, "Kaggle Diabetic Retinopathy Detection competition report", 2015. There, the mean
        includes the surround, and the outer tenth of the field is cut away.
    """

    def __init__(self, *, gain: float = 4.0, spread: float = 1.0 / 30.0) -> None:
        self.gain = number_option("gain", gain, above=0.0)
        self.spread = number_option("spread", spread, above=0.0)

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice evenly lit, in 0..1."""
        inside = field_of_view(image)
        radius = max(int(inside.any(axis).sum()) for axis in (0, 1)) / 2.0
        mean = _local_mean(image, inside.to(image.dtype)[None], self.spread * radius)
        even = image.sub(mean).mul_(self.gain).add_(0.5).clamp_(0.0, 1.0)
        return torch.where(inside, even, image)


SubtractLocalAveraged = dictionary_form(SubtractLocalAverage)


def field_of_view(image: Tensor) -> Tensor:
    """Return the mask of the field, bool ``(rows, columns)``: everywhere True if in doubt.

    Args:
        image: ``(C, rows, columns)`` in 0..1. The field is sought on the CPU, on a coarse grid.
    """
    size = (int(image.shape[-2]), int(image.shape[-1]))
    region = lit_field(image)
    if region is None:
        return torch.ones(size, dtype=torch.bool, device=image.device)
    coarse = torch.from_numpy(region).to(image.device, torch.float32)[None, None]
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[0, 0] > 0.5


def _local_mean(image: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Return the mean of ``(C, rows, columns)`` around each pixel, by a Gaussian and a weight."""
    scale = max(1.0, sigma / _COARSE_SIGMA)
    full = (int(image.shape[-2]), int(image.shape[-1]))
    size = [max(1, round(side / scale)) for side in full]
    both = torch.cat((image * weight, weight))[None]
    coarse = F.interpolate(both, size=size, mode="area") if scale > 1.0 else both
    blurred = GaussianFilter(2, max(sigma / scale, 0.1)).to(image.device)(coarse)
    mean = blurred[:, :-1] / blurred[:, -1:].clamp(min=1e-4)
    return F.interpolate(mean, size=full, mode="bilinear", align_corners=False)[0]
