"""Endoscopy transforms: no black border, no highlights, even lighting."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from skimage.measure import label
from torch import Tensor

from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.field import lit_box
from esp_medsam.transforms.inpainting import dilated, inpaint
from esp_medsam.transforms.options import number_option
from esp_medsam.transforms.slices import (
    Box,
    CropToFound,
    SliceTransform,
    as_float,
    luminance,
    shrink,
)


BLACK = 0.1
"""Luminance, in 0..1, up to which a pixel is unlit: CVC-ClinicDB's borders have up to 0.09."""


class CropBlackBorder(CropToFound):
    """Crop to the picture, without the black border and the text beside it.

    The box of the largest lit field (:func:`~esp_medsam.transforms.field.lit_field`); the whole
    image where no field is found for sure. What is as dark as the border and along all of one side
    of the field counts as border.

    Args:
        darkest: Brightest level, in 0..1, that a border may have.
        step: How much brighter than the border the picture is.
    """

    def __init__(self, *, darkest: float = 0.15, step: float = 0.03) -> None:
        super().__init__()
        self.darkest = number_option("darkest", darkest, least=0.0, most=1.0)
        self.step = number_option("step", step, least=0.0, most=1.0)

    def find(self, img: Tensor) -> Box:
        """Return the box of the picture in ``(C, rows, columns)`` in 0..1."""
        return lit_box(as_float(img), darkest=self.darkest, step=self.step)


CropBlackBorderd = dictionary_form(CropBlackBorder)


class SuppressSpecular(SliceTransform):
    """Replace specular highlights by their neighborhood.

    A highlight is bright, without color and small: luminance ``Y > brightness``, saturation
    ``(max - min) / max < saturation`` and connected to no more than ``largest`` of the image
    (instruments, stool and white mucosa are larger). It is dilated by 0.8 % of the shorter side,
    which takes its colored rim along, and inpainted.
    Gray images are left alone: in them nothing tells highlights from tissue.

    Args:
        brightness: Least luminance of a highlight, in 0..1.
        saturation: Its saturation at most, in 0..1.
        largest: Its largest part of the image, in 0..1.

    Reference:
        The rule is that of Arnold et al., "Automatic segmentation and inpainting of specular
        highlights for endoscopic imaging", doi:10.1155/2010/814319, with fixed thresholds.
    """

    def __init__(
        self, *, brightness: float = 0.7, saturation: float = 0.35, largest: float = 0.01
    ) -> None:
        self.brightness = number_option("brightness", brightness, least=0.0, most=1.0)
        self.saturation = number_option("saturation", saturation, least=0.0, most=1.0)
        self.largest = number_option("largest", largest, least=0.0, most=1.0)

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice without highlights."""
        if len(image) == 1:
            return image
        high, low = image.amax(0), image.amin(0)
        light = luminance(image)
        mask = (light > self.brightness) & (high - low < self.saturation * high)
        mask = _small(mask, self.largest)
        radius = max(1, round(0.008 * min(mask.shape)))
        # Highlights at the edge of the picture must not be filled with its black border.
        usable = ~dilated(light <= BLACK, radius)
        return inpaint(image, dilated(mask, radius) & (light > BLACK), usable)


SuppressSpeculard = dictionary_form(SuppressSpecular)


class NormalizeIllumination(SliceTransform):
    """Even out the light: divide by the large-scale luminance.

    ``out = clip(img * clip(m / B, 1 / gain, gain), 0, 1)`` with ``B`` the luminance blurred by a
    Gaussian of ``scale`` times the longer side, over lit pixels alone, and ``m`` its mean there.
    All channels share the factor, so that hue stays. Unlit pixels, of a luminance of 0.1 at most,
    keep their values, and the factor comes in gradually up to 0.2; a constant image stays as it is.

    Args:
        scale: Standard deviation of the blur, relative to the longer side.
        gain: Largest factor, either way.

    Reference:
        Homomorphic filtering (Oppenheim et al., 1968) in its simplest, ratio form, as single-scale
        retinex (Jobson et al., doi:10.1109/83.557356) without its logarithm.
    """

    def __init__(self, *, scale: float = 0.1, gain: float = 2.5) -> None:
        self.scale = number_option("scale", scale, above=0.0, most=1.0)
        self.gain = number_option("gain", gain, least=1.0)

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice in even light."""
        light = luminance(image)
        even = shrink(light[None], 64)[None]
        lit = (even > BLACK).to(even.dtype)
        if not lit.any():
            return image
        sigma = self.scale * max(even.shape[-2:])
        local = _blurred(even * lit, sigma) / _blurred(lit, sigma).clamp(min=1e-3)
        mean = (local * lit).sum() / lit.sum()
        factor = (mean / local.clamp(min=1e-3)).clamp(1.0 / self.gain, self.gain)
        size = (int(image.shape[-2]), int(image.shape[-1]))
        factor = F.interpolate(factor, size=size, mode="bilinear", align_corners=False)
        seen = ((light - BLACK) / BLACK).clamp_(0.0, 1.0)
        return (image * torch.lerp(torch.ones_like(seen), factor[0, 0], seen)).clamp_(0.0, 1.0)


NormalizeIlluminationd = dictionary_form(NormalizeIllumination)


def _small(mask: Tensor, largest: float) -> Tensor:
    """Keep the components that cover at most this part of the image; on the CPU."""
    if not mask.any():
        return mask
    components = label(mask.numpy(force=True), connectivity=2)  # type: ignore[no-untyped-call]
    components = torch.from_numpy(components).to(mask.device)
    sizes = torch.bincount(components.flatten())
    kept = sizes <= largest * mask.numel()
    kept[0] = False
    return kept[components]


def _blurred(values: Tensor, sigma: float) -> Tensor:
    """Blur ``(1, 1, rows, columns)`` by a Gaussian, zeros beyond the edge."""
    radius = max(1, round(3.0 * sigma))
    places = torch.arange(-radius, radius + 1, device=values.device, dtype=values.dtype)
    kernel = torch.exp(-0.5 * (places / max(sigma, 1e-3)) ** 2)
    values = F.conv2d(values, kernel.view(1, 1, -1, 1), padding=(radius, 0))
    return F.conv2d(values, kernel.view(1, 1, 1, -1), padding=(0, radius))
