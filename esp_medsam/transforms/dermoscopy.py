"""Dermoscopy transforms: even lighting, no hairs, no dark rim."""

from __future__ import annotations

from torch import Tensor

from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.field import lit_box
from esp_medsam.transforms.hair import hair_mask
from esp_medsam.transforms.inpainting import inpaint
from esp_medsam.transforms.options import number_option
from esp_medsam.transforms.slices import (
    Box,
    CropToFound,
    SliceTransform,
    as_float,
    shrink,
)
from esp_medsam.transforms.vignette import dark_corners


class ShadesOfGray(SliceTransform):
    """Make the light neutral: gray in the Minkowski mean, by a factor per channel (von Kries).

    ``e_c = mean(img_c ** p) ** (1 / p)``, ``out_c = clip(img_c * |e| / (sqrt(3) * e_c), 0, 1)``.
    ``p = 1`` is gray world, large p white patch. A channel that is 0 all over stays so; gray
    images, of one channel or three equal ones, stay as they are.

    Args:
        power: The norm's p, at least 1; 6 is what the paper found best.

    Raises:
        OptionError: If ``power`` is less than 1.

    Reference:
        Finlayson and Trezzi, "Shades of gray and colour constancy", Color Imaging Conference 2004;
        on dermoscopy: Barata et al., doi:10.1109/JBHI.2014.2336473.
    """

    def __init__(self, *, power: float = 6.0) -> None:
        self.power = number_option("power", power, least=1.0)

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice under neutral light."""
        if len(image) == 1:
            return image
        # Of large photographs a mean over areas first: the light is the same, the time is not.
        light = shrink(image, _LIGHT_GRID).clamp(0.0, 1.0).double().pow(self.power)
        light = light.mean((1, 2)).pow(1.0 / self.power)
        factor = light.norm() / (3.0**0.5 * light.clamp(min=1e-6))
        result: Tensor = (image * factor.to(image.dtype).view(3, 1, 1)).clamp_(0.0, 1.0)
        return result


_LIGHT_GRID = 256
"""Longest side that the light's color is measured at."""


ShadesOfGrayd = dictionary_form(ShadesOfGray)


class RemoveHair(SliceTransform):
    """Replace dark hairs by the skin around them; every other pixel stays as it is.

    Which pixels they are says :func:`~esp_medsam.transforms.hair.hair_mask`; they are inpainted.
    Light and fair hairs stay. Computed in part in numpy, on the CPU.

    Args:
        threshold: How much darker than what is beside it a hair is, relative to the skin.
        length: Least length of a hair, relative to the longer side.
    """

    def __init__(self, *, threshold: float = 0.12, length: float = 0.08) -> None:
        self.threshold = number_option("threshold", threshold, above=0.0, most=1.0)
        self.length = number_option("length", length, least=0.0, most=1.0)

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice without hairs."""
        return inpaint(image, hair_mask(image, threshold=self.threshold, length=self.length))


RemoveHaird = dictionary_form(RemoveHair)


_SKIN = 0.12
"""How much brighter than the rim skin is: the rim glows where the dermoscope lights it."""


class CropDarkRim(CropToFound):
    """Crop to the box of the dermoscope's lit field, where a dark rim surrounds it.

    Found as :func:`~esp_medsam.transforms.field.lit_field` says; the whole image where unsure. A
    round field in the frame loses nothing, and neither rulers nor dark lesions count as rim: both
    would have to be dark along all of a side.
    """

    def find(self, img: Tensor) -> Box:
        """Return the box of the field in ``(C, rows, columns)`` in 0..1."""
        return lit_box(as_float(img), step=_SKIN)


CropDarkRimd = dictionary_form(CropDarkRim)


class FillDarkCorners(SliceTransform):
    """Fill the dark corners around a round field with the color of the skin at its edge.

    Which pixels they are, and when there are none for sure, says
    :func:`~esp_medsam.transforms.vignette.dark_corners`. All others stay as they are.
    """

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice with light corners."""
        mask = dark_corners(image)
        return image if mask is None else inpaint(image, mask)


FillDarkCornersd = dictionary_form(FillDarkCorners)
