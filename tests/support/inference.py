"""Images as the inferer is given them, and inferers of small input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data import MetaTensor
from torch import nn

from esp_medsam.grid import Grid
from esp_medsam.image import IMAGE_KEY, Image
from esp_medsam.inferers.slice_wise import SliceWiseInferer
from esp_medsam.modality import ModalityTable


def build_inferer(table: ModalityTable, **options: Any) -> SliceWiseInferer:
    """Build an inferer that shows pixels as they are, 32 x 32 where nothing else is given."""
    settings: dict[str, Any] = {
        "input_size": (32, 32),
        "pixel_mean": (0.0,) * 3,
        "pixel_std": (1.0,) * 3,
    }
    return SliceWiseInferer(table=table, **{**settings, **options})


def as_batch(
    array: npt.NDArray[Any],
    affine: npt.NDArray[np.float64] | None = None,
    modality: str = "xray",
    intensity_range: tuple[float, float] | None = (0.0, 255.0),
) -> MetaTensor:
    """Make a batch of one as MONAI Label hands it over: meta plain.

    Args:
        array: ``(channels, *grid)``.
        affine: Of the grid, to RAS+.
        modality: What the image is of.
        intensity_range: What is shown black and white.
    """
    record = Image(
        path="/data/a.png",
        name="a",
        modality=modality,
        grid=Grid(shape=array.shape[1:], affine=affine),
        intensity_range=intensity_range,
    )
    return MetaTensor(torch.from_numpy(array[None]), meta={IMAGE_KEY: record, "space": "RAS"})


def blobs(shape: Sequence[int], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return one channel of smooth uint8 blobs."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand((1, 1, *(max(2, n // 4) for n in shape)), generator=generator)
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    smooth = nn.functional.interpolate(noise, size=tuple(shape), mode=mode)
    values: npt.NDArray[np.uint8] = (smooth[0] * 255).byte().numpy()
    return values
