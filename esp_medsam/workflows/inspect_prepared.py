"""Draw images as the network will see them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from esp_medsam.image import Image, image_of
from esp_medsam.inferers.preparation import Slices
from esp_medsam.inferers.slice_wise import SliceWiseInferer
from esp_medsam.io.contact_sheet import Tile
from esp_medsam.io.item import Item
from esp_medsam.io.slice_choice import TILES, spread_indices
from esp_medsam.settings import InferenceSettings
from esp_medsam.workflows.inspect import Inspection, plan_inspection
from esp_medsam.workflows.pipeline import read_config
from esp_medsam.workflows.request import Request


LARGEST = 640
"""Longest side of a slice drawn from its own grid, in pixels."""


def build_prepared_inspection(request: Request, *, draw: bool = False) -> Inspection:
    """Plan what to describe, with the bundle's own preparation.

    Args:
        request: The request; its ``dataset_dir`` is a file, or a folder, searched recursively.
        draw: Whether to draw what the network would see.

    Raises:
        EspMedSamError: If the path or an option is not usable; MONAI wraps errors during the
            build, see :func:`esp_medsam.errors.explain`.
    """
    config = read_config(request)
    settings: InferenceSettings = config.get_parsed_content("settings")
    preprocessing: Any = config.get_parsed_content("preprocessing")
    inferer: SliceWiseInferer = config.get_parsed_content("inferer")

    def read(item: Item) -> Image:
        image = preprocessing({"image": item})["image"]
        return replace(image_of(image.meta), pixels=image.as_tensor().numpy())

    return Inspection(
        plans=plan_inspection(dict(settings), request.table),
        read=read,
        table=request.table,
        frame=settings.frame,
        join=settings.join,
        slice_axis=settings.slice_axis,
        is_given=isinstance(settings.modality, str),
        draw=partial(tiles_of, inferer=inferer) if draw else None,
    )


def tiles_of(image: Image, inferer: SliceWiseInferer) -> list[Tile]:
    """Draw slices of an image as the network would see them, evenly spaced over a volume.

    Args:
        image: The image with its metadata and pixels, in a type that torch has.
        inferer: Takes, prepares and scales the slices.
    """
    assert image.pixels is not None, "they are what is drawn"
    pixels = torch.from_numpy(image.pixels)
    slices = Slices(pixels, image, transforms=inferer.transforms, slice_axis=inferer.slice_axis)
    last = len(slices) - 1
    return [
        Tile(
            f"{image.relative_dir}/{image.name}".removeprefix("/"),
            f"slice {index} (0-{last})" if image.grid.is_volume else "",
            network_view(slices, index, inferer),
        )
        for index in spread_indices(len(slices), TILES)
    ]


def network_view(slices: Slices, index: int, inferer: SliceWiseInferer) -> npt.NDArray[np.uint8]:
    """Return a slice as it enters the network, before normalization: ``(H, W, 3)``.

    Padding has the mean color, which is zero to the network. Large slices that keep their own
    grid are drawn smaller.
    """
    inputs, _ = inferer.input_of([slices[index]], slices.spacing, torch.device("cpu"))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (inferer.pixel_mean, inferer.pixel_std))
    rgb = (inputs[0] * std + mean).clamp(0.0, 1.0).mul(255.0)
    smaller = min(1.0, LARGEST / max(rgb.shape[-2:]))
    if inferer.input_size is None and smaller < 1.0:
        size = [max(1, int(side * smaller)) for side in rgb.shape[-2:]]
        rgb = F.interpolate(rgb[None], size=size, mode="bilinear", antialias=True)[0]
    rgb = rgb.round()
    drawn: npt.NDArray[np.uint8] = rgb.to(torch.uint8).permute(1, 2, 0).numpy()
    return drawn
