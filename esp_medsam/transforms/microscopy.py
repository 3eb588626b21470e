"""Microscopy transforms: stain normalization and fluorescence gain."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.apps.pathology.transforms.stain.array import NormalizeHEStains
from torch import Tensor

from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.options import number_option, percentiles_option
from esp_medsam.transforms.slices import SliceTransform, luminance


BRIGHT = 0.3
"""Smallest background level of bright field.

In 660 images of DSB2018, fluorescence has at most 0.173 and bright field at least 0.491;
scikit-image's ``ihc.png`` has 0.744, ``hubble_deep_field.jpg`` 0.054."""

_PIXELS = 2**17
"""Number of evenly spread pixels for statistics: more pixels make no visible difference."""


def is_bright_field(img: Tensor) -> bool:
    """Whether an image is bright field (light shines through), not fluorescence (emitted light).

    Bright field has a bright background: the larger of two medians of the luminance, over the whole
    image and over its outermost twentieth, is at least 0.3. Its light is also white: the median of
    the smallest channel is at least 0.1, whereas one fluorescent dye leaves some channel at 0.

    Args:
        img: ``(1 or 3, rows, columns)`` in 0..1.
    """
    thin = _thinned(img)
    light = luminance(thin)
    margins = [max(1, side // 20) for side in light.shape]
    (top, left) = margins
    edge = torch.cat([
        light[:top].flatten(), light[-top:].flatten(), light[:, :left].flatten(),
        light[:, -left:].flatten(),
    ])  # fmt: skip
    background = max(float(light.median()), float(edge.median()))
    return background >= BRIGHT and float(thin.amin(0).median()) >= 0.1


class NormalizeStain(SliceTransform):
    """Show hematoxylin and eosin in the colors and strengths of a reference slide (Macenko).

    The absorbances are ``a = -log((255 img + 1) / 240)``, at least 0. MONAI's ``ExtractHEStains``
    gives the two stains' absorbances ``S``, (3, 2), and ``c = pinv(S) a`` gives the concentrations.
    These are scaled so that their 99th percentiles equal the reference's, and mixed again with the
    reference's stains: ``out = 240 exp(-S_ref c') / 255``, clipped. This is MONAI's
    ``NormalizeHEStains``, up to its rounding to bytes, with three changes: stains come from 2**17
    evenly spread pixels, hematoxylin is the stain that absorbs more red than blue (MONAI 1.6.1
    swaps the two), and the rest is one matrix. White becomes 240 / 255.

    Left alone are images with one channel, fluorescence (:func:`is_bright_field`), images with less
    than ``least`` of stained pixels (absorbances above 0.15 in all channels), images whose stains
    cannot be separated (condition number of S above 20), such as gray images, and images with other
    stains: if either is more than ``tolerance`` from its reference. (For DSB2018's other stains and
    for immunohistochemistry, the method would produce meaningless colors.)

    Args:
        least: Smallest fraction of the image that is stained, in 0..1.
        tolerance: Largest angle in degrees between a stain's absorbances and the reference's; the
            two reference stains are 22 degrees apart.

    Reference:
        Macenko et al., "A method for normalizing histology slides for quantitative analysis",
        doi:10.1109/ISBI.2009.5193250.
    """

    def __init__(self, *, least: float = 0.01, tolerance: float = 20.0) -> None:
        self.least = number_option("least", least, least=0.0, most=1.0)
        self.tolerance = number_option("tolerance", tolerance, least=0.0, most=180.0)
        self._stains = NormalizeHEStains()

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice in the reference's stains, which are found on the CPU."""
        if len(image) == 1 or not is_bright_field(image):
            return image
        mixing = self._mixing(_thinned(image))
        if mixing is None:
            return image
        matrix = torch.from_numpy(mixing).to(image)
        absorbance = self._absorbance(image).flatten(1)
        result = torch.exp(-(matrix @ absorbance)).mul_(self._stains.tli / 255.0)
        return result.clamp_(0.0, 1.0).view_as(image)

    def _absorbance(self, img: Tensor) -> Tensor:
        white = self._stains.tli
        return -(img * (255.0 / white) + 1.0 / white).clamp(max=1.0).log_()

    def _mixing(self, img: Tensor) -> npt.NDArray[np.float32] | None:
        """Return the matrix ``(3, 3)`` from absorbances to those under the reference's stains."""
        absorbance = self._absorbance(img).flatten(1).numpy(force=True)
        stained = int((absorbance > self._stains.stain_extractor.beta).all(0).sum())
        if stained < max(10.0, self.least * absorbance.shape[1]):
            return None
        bytes_ = (img.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
        stains = _ordered(self._stains.stain_extractor(bytes_.permute(1, 2, 0).numpy(force=True)))
        if not np.isfinite(stains).all() or np.linalg.cond(stains) > 20.0:
            return None
        if _angles(stains, self._stains.target_he).max() > self.tolerance:
            return None
        inverse = np.linalg.pinv(stains)
        strength = np.percentile(inverse @ absorbance, 99.0, axis=1)
        if not (strength > 1e-3).all():
            return None
        scaled = inverse * (self._stains.max_cref / strength)[:, None]
        mixing: npt.NDArray[np.float32] = (self._stains.target_he @ scaled).astype(np.float32)
        return mixing


NormalizeStaind = dictionary_form(NormalizeStain)


class ScaleFluorescence(SliceTransform):
    """Show fluorescence images of any gain alike, stretched between two percentiles.

    ``out = clip((img - low) / (high - low), 0, 1)`` with the percentiles of the brightest channel,
    over 2**17 evenly spread pixels; one pair for all channels keeps the dye's color. Gain and
    offset of the camera cancel. Bright field (:func:`is_bright_field`) is left alone, and so are
    images whose percentiles differ by less than ``least``, which contain only noise.

    Args:
        percentiles: Percentiles shown as 0 and 1, in percent.
        least: Smallest difference between the two, in 0..1.

    Raises:
        OptionError: If the percentiles do not ascend within 0 to 100.
    """

    def __init__(
        self, *, percentiles: tuple[float, float] = (1.0, 99.8), least: float = 0.02
    ) -> None:
        self.percentiles = percentiles_option("percentiles", percentiles)
        self.least = number_option("least", least, least=0.0, most=1.0)

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice stretched."""
        if is_bright_field(image):
            return image
        values = _thinned(image).amax(0).flatten()
        ranks = values.new_tensor(self.percentiles) / 100.0
        low, high = values.quantile(ranks).tolist()
        if high - low < self.least:
            return image
        result: Tensor = ((image - low) / (high - low)).clamp_(0.0, 1.0)
        return result


ScaleFluorescenced = dictionary_form(ScaleFluorescence)


def _ordered(stains: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return hematoxylin, then eosin: hematoxylin absorbs more red, eosin more blue.

    MONAI 1.6.1 (pull request 8551) sorts absorbances as if they were the colors seen, which swaps
    the two: nuclei would be shown in eosin's color.
    """
    ratio = stains[0] / np.maximum(stains[2], 1e-6)
    return stains if ratio[0] >= ratio[1] else stains[:, ::-1]


def _angles(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the angles in degrees between the columns of two matrices."""
    product = (first * second).sum(0)
    cosine = product / (np.linalg.norm(first, axis=0) * np.linalg.norm(second, axis=0))
    angles: npt.NDArray[Any] = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    return angles


def _thinned(img: Tensor) -> Tensor:
    """Return every n-th row and column, so that at most ``_PIXELS`` are left."""
    pixels = int(img.shape[-2]) * int(img.shape[-1])
    step = int(np.ceil((pixels / _PIXELS) ** 0.5))
    return img[:, ::step, ::step]
