"""Dermoscopy transforms: even the lighting, and remove hairs and dark rims."""

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
    ``p = 1`` is gray world, large p white patch. A channel that is 0 everywhere stays 0; gray
    images, with one channel or three equal ones, stay as they are.

    Args:
        power: The norm's p, at least 1; the paper found 6 to be best.

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
        # Average large photographs over areas first: same light, less time.
        light = shrink(image, _LIGHT_GRID).clamp(0.0, 1.0).double().pow(self.power)
        light = light.mean((1, 2)).pow(1.0 / self.power)
        factor = light.norm() / (3.0**0.5 * light.clamp(min=1e-6))
        result: Tensor = (image * factor.to(image.dtype).view(3, 1, 1)).clamp_(0.0, 1.0)
        return result


_LIGHT_GRID = 256
"""Longest side of the grid on which the light's color is measured."""


ShadesOfGrayd = dictionary_form(ShadesOfGray)


class RemoveHair(SliceTransform):
    """Replace dark hairs by the skin around them; all other pixels stay as they are.

    The hairs are found by :func:`~esp_medsam.transforms.hair.hair_mask` and inpainted. Light and
    fair hairs stay. Computed partly in numpy, on the CPU.

    Args:
        threshold: How much darker a hair is than what is beside it, relative to the skin.
        length: Smallest length of a hair, relative to the longer side.
    """

    def __init__(self, *, threshold: float = 0.12, length: float = 0.08) -> None:
        self.threshold = number_option("threshold", threshold, above=0.0, most=1.0)
        self.length = number_option("length", length, least=0.0, most=1.0)

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice without hairs."""
        return inpaint(image, hair_mask(image, threshold=self.threshold, length=self.length))


RemoveHaird = dictionary_form(RemoveHair)


_SKIN = 0.12
"""How much brighter skin is than the rim, which glows where the dermoscope lights it."""


class CropDarkRim(CropToFound):
    """Crop to the box of the dermoscope's lit field if a dark rim surrounds it.

    The field is found by :func:`~esp_medsam.transforms.field.lit_field`; if in doubt, the whole
    image stays. A round field within the frame loses nothing. Rulers and dark lesions do not count
    as rim, because a rim has to be dark along a whole side.
    """

    def find(self, img: Tensor) -> Box:
        """Return the box of the field in ``(C, rows, columns)`` in 0..1."""
        return lit_box(as_float(img), step=_SKIN)


CropDarkRimd = dictionary_form(CropDarkRim)


class FillDarkCorners(SliceTransform):
    """Fill the dark corners around a round field with the color of the skin at its edge.

    The corners are found by :func:`~esp_medsam.transforms.vignette.dark_corners`, which returns
    none if in doubt. All other pixels stay as they are.
    """

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice with its corners filled."""
        mask = dark_corners(image)
        return image if mask is None else inpaint(image, mask)


FillDarkCornersd = dictionary_form(FillDarkCorners)
