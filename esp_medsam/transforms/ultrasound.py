"""Ultrasound transforms: crop to the scan, remove marks and color, reduce speckle."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from esp_medsam.errors import check_one_of
from esp_medsam.image import UltrasoundRegion
from esp_medsam.transforms.burned_in import marks_mask
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
    record_of,
    shrink,
)


_TWO_D, _TISSUE, _COLOR_FLOW = 1, 1, 2
"""Values of Region Spatial Format and Region Data Type. DICOM PS3.3 C.8.5.5.1."""


def tissue_box(regions: Iterable[UltrasoundRegion], shape: tuple[int, int]) -> Box | None:
    """Return the box of the 2-D tissue regions among those that the machine calibrated.

    It encloses all regions of spatial format 2-D and data type tissue. Without any, regions of
    color flow, which lies over tissue, are used. Doppler spectra, M-mode, graphs and text never
    count.

    Args:
        regions: Regions of one image.
        shape: Rows and columns of the image, which the box is clipped to.

    Returns:
        Rows and columns; None if there is no such region, or if it lies outside the image.
    """
    flat = [region for region in regions if region.spatial_format == _TWO_D]
    for data_type in (_TISSUE, _COLOR_FLOW):
        chosen = [region for region in flat if region.data_type == data_type]
        if not chosen:
            continue
        box = []
        for axis, side in zip(("rows", "columns"), shape, strict=True):
            ends = [getattr(region, axis) for region in chosen]
            start, stop = max(0, min(e[0] for e in ends)), min(side, max(e[1] for e in ends) + 1)
            if stop <= start:
                return None
            box.append(slice(start, stop))
        return box[0], box[1]
    return None


class CropToScan(CropToFound):
    """Crop to the scan, without the text, scales and bars around it.

    If the slice's meta holds an image record with 2-D tissue regions from DICOM, the box is theirs
    (:func:`tissue_box`). Otherwise it is that of the largest regions, fans or rectangles, brighter
    than the dark border (:func:`~esp_medsam.transforms.field.lit_field`), each at least a twentieth
    of the largest, because a cyst may divide a scan. Without any, the whole image stays. Noise of
    the far field is hardly brighter than a border, so ``step`` is small.

    Args:
        step: How much brighter the scan is than the border, in 0..1.
    """

    def __init__(self, *, step: float = 0.008) -> None:
        super().__init__()
        self.step = number_option("step", step, least=0.0, most=1.0)

    def find(self, img: Tensor) -> Box:
        """Return the box of the scan in ``(C, rows, columns)`` in 0..1."""
        image = as_float(img)
        record = record_of(img)
        shape = (int(image.shape[-2]), int(image.shape[-1]))
        # Regions refer to the whole image: in a slice that was cropped before, they lie elsewhere.
        if record is not None and record.grid.shape[:2] == shape:
            stated = tissue_box(record.ultrasound_regions, shape)
            if stated is not None:
                return stated
        return lit_box(image, step=self.step, parts=0.05)


CropToScand = dictionary_form(CropToScan)


class MaskBurnedIn(SliceTransform):
    """Fill text and callipers from their surroundings; all other pixels stay as they are.

    The marks are found by :func:`~esp_medsam.transforms.burned_in.marks_mask`. Thin gray dots
    between callipers stay. This makes reading easier; it is not de-identification. Computed partly
    in numpy, on the CPU.

    Args:
        brightness: Smallest value of a white mark, relative to the image's largest.
        contrast: How much brighter than its surroundings a white mark is, in 0..1.
        chroma: Smallest ``max - min`` of the channels of a colored mark, in 0..1.
    """

    def __init__(
        self, *, brightness: float = 0.8, contrast: float = 0.35, chroma: float = 0.15
    ) -> None:
        self.brightness = number_option("brightness", brightness, least=0.0, most=1.0)
        self.contrast = number_option("contrast", contrast, above=0.0, most=1.0)
        self.chroma = number_option("chroma", chroma, least=0.0, most=1.0)

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice without marks."""
        mask = marks_mask(
            image, brightness=self.brightness, contrast=self.contrast, chroma=self.chroma
        )
        return inpaint(image, mask)


MaskBurnedInd = dictionary_form(MaskBurnedIn)


class ReduceSpeckle(SliceTransform):
    """Smooth speckle and keep edges by anisotropic diffusion.

    ``u += 0.2 * div(g(du) * du)`` with ``g(d) = 1 / (1 + (d / edge) ** 2)`` for the difference to
    each of the four neighbors, ``iterations`` times. Displayed B-mode values are already logarithms
    of the echo, so multiplicative speckle is additive noise in them and no further logarithm is
    taken. The result never leaves the range of the input, and keeps its mean.

    Implemented here because SimpleITK's GradientAnisotropicDiffusion takes 25 times as long.

    Args:
        edge: Smallest difference between neighbors, in 0..1, at which an edge is kept.
        iterations: Number of steps; each reaches one pixel further.

    Reference:
        Perona and Malik, doi:10.1109/34.56205, Eqs. 7 and 8; on log-compressed speckle see Yu and
        Acton, doi:10.1109/TIP.2002.804276, Sec. II.
    """

    def __init__(self, *, edge: float = 0.08, iterations: int = 5) -> None:
        self.edge = number_option("edge", edge, above=0.0)
        self.iterations = int(number_option("iterations", iterations, least=0))

    def apply(self, image: Tensor) -> Tensor:
        """Return the smoothed slice."""
        result = image.clone()
        for _ in range(self.iterations):
            flows = [self._flow(result.diff(dim=axis)) for axis in (1, 2)]
            for axis, flow in zip((1, 2), flows, strict=True):
                result.narrow(axis, 0, flow.shape[axis]).add_(flow)
                result.narrow(axis, 1, flow.shape[axis]).sub_(flow)
        return result.clamp_(0.0, 1.0)

    def _flow(self, step: Tensor) -> Tensor:
        return step.mul(0.2).div_(step.mul(1.0 / self.edge).square_().add_(1.0))


ReduceSpeckled = dictionary_form(ReduceSpeckle)


class NormalizeGain(SliceTransform):
    """Show scans of any gain alike, by a power that brings the median to a target.

    ``out = img ** g`` with ``g = log(target) / log(m)``, limited to ``1 / limit`` and ``limit``;
    ``m`` is the median of all values above 0.02. With ``depth``, the first step is
    ``img * clip(m / m_r, 1 / limit, limit)``, where ``m_r`` is the mean of the lit pixels in row r,
    smoothed over an eighth of the rows; this evens out a bad time-gain compensation. It assumes
    that rows are depths, as in linear probes, and evens out attenuation that may be meaningful, so
    it is off.

    Args:
        target: Desired median, in (0, 1).
        limit: Largest power and factor; the smallest is ``1 / limit``.
        depth: Whether to even out the rows first.

    Raises:
        OptionError: If ``target`` lies outside (0, 1), or ``limit`` is below 1.
    """

    def __init__(self, *, target: float = 0.25, limit: float = 2.5, depth: bool = False) -> None:
        self.target = number_option("target", target, above=0.0, below=1.0)
        self.limit = number_option("limit", limit, least=1.0)
        self.depth = depth

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice at the target gain."""
        if self.depth:
            image = (image * self._row_factor(luminance(image))).clamp_(0.0, 1.0)
        light = shrink(luminance(image)[None], _GAIN_GRID)
        median = float(light[light > _LIT].median()) if bool((light > _LIT).any()) else self.target
        if not median < 1.0:
            return image
        power = float(np.log(self.target) / np.log(median))
        return image.clamp(0.0, 1.0).pow(min(max(power, 1.0 / self.limit), self.limit))

    def _row_factor(self, light: Tensor) -> Tensor:
        """Return the factor of each row, ``(rows, 1)``."""
        lit = (light > _LIT).to(light.dtype)
        sums = torch.stack(((light * lit).sum(1), lit.sum(1)))[None]
        width = max(1, light.shape[0] // 16) * 2 + 1
        total, count = F.avg_pool1d(sums, width, 1, width // 2, count_include_pad=False)[0]
        mean = sums[0, 0].sum() / sums[0, 1].sum().clamp(min=1.0)
        factor = mean * count / total.clamp(min=1e-6)
        factor = factor.clamp(1.0 / self.limit, self.limit)
        return torch.where(count > 0, factor, torch.ones_like(factor))[:, None]


_LIT = 0.02
"""Value above which a pixel belongs to the scan."""

_GAIN_GRID = 512
"""Longest side of the grid on which the median is computed."""


NormalizeGaind = dictionary_form(NormalizeGain)


class SuppressDoppler(SliceTransform):
    """Keep color Doppler from being read as anatomy: fill colored pixels from their surroundings.

    A pixel is colored if its channels differ by more than ``chroma``; the mask of flow, its color
    bar and colored marks is widened by a pixel. If more than half of the lit pixels are colored,
    the scan itself is tinted and is left alone, as are images with one channel.

    Args:
        chroma: ``max - min`` of the channels, in 0..1, above which a pixel is colored.
        fill: ``neighborhood``, because flow hides the echo; or ``gray``, the pixel's luminance.

    Raises:
        OptionError: If ``fill`` is neither ``neighborhood`` nor ``gray``.
    """

    def __init__(self, *, chroma: float = 0.15, fill: str = "neighborhood") -> None:
        check_one_of("fill", fill, ("neighborhood", "gray"))
        self.chroma = number_option("chroma", chroma, least=0.0, most=1.0)
        self.fill = fill

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice without color."""
        if len(image) == 1:
            return image
        high = image.amax(0)
        colored = high - image.amin(0) > self.chroma
        lit = (high > _LIT).sum()
        if not colored.any() or 2 * colored.sum() > lit:
            return image
        mask = dilated(colored, 1)
        if self.fill == "gray":
            return torch.where(mask, luminance(image), image)
        return inpaint(image, mask)


SuppressDopplerd = dictionary_form(SuppressDoppler)
