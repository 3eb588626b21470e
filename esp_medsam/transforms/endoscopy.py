"""Endoscopy transforms: remove the black border and specular highlights."""

from __future__ import annotations

import torch
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
)


BLACK = 0.1
"""Luminance, in 0..1, up to which a pixel is unlit: borders in CVC-ClinicDB reach 0.09."""


class CropBlackBorder(CropToFound):
    """Crop to the picture, without the black border and the text beside it.

    The box is that of the largest lit field (:func:`~esp_medsam.transforms.field.lit_field`), or
    the whole image if no field is found for sure. Anything as dark as the border along a whole side
    of the field counts as border.

    Args:
        darkest: Brightest level, in 0..1, that a border may have.
        step: How much brighter the picture is than the border.
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
    """Replace specular highlights by their surroundings.

    A highlight is bright, colorless and small: its luminance ``Y > brightness``, its saturation
    ``(max - min) / max < saturation``, and its component covers at most ``largest`` of the image
    (instruments, stool and white mucosa are larger). It is dilated by 0.8 % of the shorter side,
    which includes its colored rim, and inpainted.
    Gray images are left alone, because nothing distinguishes highlights from tissue in them.

    Args:
        brightness: Smallest luminance of a highlight, in 0..1.
        saturation: Largest saturation of a highlight, in 0..1.
        largest: Largest fraction of the image that a highlight covers, in 0..1.

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


def _small(mask: Tensor, largest: float) -> Tensor:
    """Keep the components that cover at most ``largest`` of the image; runs on the CPU."""
    if not mask.any():
        return mask
    components = label(mask.numpy(force=True), connectivity=2)  # type: ignore[no-untyped-call]
    components = torch.from_numpy(components).to(mask.device)
    sizes = torch.bincount(components.flatten())
    kept = sizes <= largest * mask.numel()
    kept[0] = False
    return kept[components]
