"""Contrast-limited adaptive histogram equalization (CLAHE) in torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.transforms.dictionary import dictionary_form
from esp_medsam.transforms.options import number_option
from esp_medsam.transforms.slices import SliceTransform, luminance


_BINS = 256

_BAND_PIXELS = 2**19
"""Pixels looked up at once: their coordinates take twelve bytes each."""


class Clahe(SliceTransform):
    """Equalize the contrast around each pixel, but no more than ``clip_limit`` allows.

    The slice is cut into tiles. Each tile's histogram of 256 bins is clipped at ``clip_limit``
    times its mean, what is cut off is spread evenly, and the sum is a rising map from 0..1 to 0..1.
    A pixel is mapped by the four nearest tiles, interpolated between tiles and between bins. The
    contrast grows by less than ``clip_limit + 1``. With three channels, the luminance (Rec. 601) is
    equalized and its change is added to all of them, which keeps the hues.

    scikit-image's ``equalize_adapthist`` looks the same, but takes twice as long and runs only on
    the CPU.

    Args:
        tiles: Tiles along rows and columns.
        clip_limit: Clip limit, at least 1, which changes practically nothing.

    Raises:
        OptionError: If an option is out of its range.

    Reference:
        Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994.
    """

    def __init__(self, *, tiles: Sequence[int] = (8, 8), clip_limit: float = 2.0) -> None:
        if len(tiles) != 2 or min(tiles) < 1:
            msg = f"tiles must be two numbers of at least 1; got {tiles}."
            raise OptionError(msg)
        self.tiles = (int(tiles[0]), int(tiles[1]))
        self.clip_limit = number_option("clip_limit", clip_limit, least=1.0)

    def apply(self, image: Tensor) -> Tensor:
        """Return the slice with its contrast equalized, in 0..1."""
        values = luminance(image).clamp(0.0, 1.0)
        equalized = _looked_up(values, self._maps(values))
        if image.shape[0] == 1:
            return equalized[None]
        return (image + (equalized - values)).clamp_(0.0, 1.0)

    def _maps(self, values: Tensor) -> Tensor:
        """Return each tile's map at the 257 edges of its bins, ``(rows, columns, 257)``."""
        sides = [min(tiles, side) for tiles, side in zip(self.tiles, values.shape, strict=True)]
        row, column = (
            torch.arange(side, device=values.device) * tiles // side
            for tiles, side in zip(sides, values.shape, strict=True)
        )
        tile = row[:, None] * sides[1] + column
        bins = (values * _BINS).long().clamp_(max=_BINS - 1)
        count = sides[0] * sides[1]
        histogram = torch.bincount((tile * _BINS + bins).ravel(), minlength=count * _BINS)
        histogram = histogram.view(count, _BINS).float()
        share = histogram / histogram.sum(1, keepdim=True)
        clipped = share.clamp(max=self.clip_limit / _BINS)
        clipped += (1.0 - clipped.sum(1, keepdim=True)) / _BINS
        return F.pad(clipped.cumsum(1), (1, 0)).clamp_(max=1.0).view(*sides, _BINS + 1)


Clahed = dictionary_form(Clahe)


def _looked_up(values: Tensor, maps: Tensor) -> Tensor:
    """Return ``(rows, columns)`` looked up in the maps: trilinear in row, column and value."""
    rows, columns = values.shape
    result = torch.empty_like(values)
    across = (torch.arange(columns, device=values.device) * 2.0 + 1.0) / columns - 1.0
    down = (torch.arange(rows, device=values.device) * 2.0 + 1.0) / rows - 1.0
    # The edges of the bins are points and the tiles are areas, but grid_sample treats all as areas.
    value = (2.0 * _BINS * values + 1.0) / (_BINS + 1) - 1.0
    step = max(1, _BAND_PIXELS // columns)
    for start in range(0, rows, step):
        band = slice(start, min(start + step, rows))
        height = band.stop - start
        place = (
            value[band],
            across.expand(height, columns),
            down[band, None].expand(height, columns),
        )
        grid = torch.stack(place, dim=-1)[None, None]
        result[band] = F.grid_sample(
            maps[None, None], grid, mode="bilinear", padding_mode="border", align_corners=False
        )[0, 0, 0]
    return result
