"""The slices of an item of a datalist, as the network learns from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esp_medsam.inferers.preparation import Slices
from esp_medsam.inferers.resizing import content_size, to_content
from esp_medsam.io.load import as_meta_tensor
from esp_medsam.io.read import read
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms.by_modality import MeasureImage, ModalityTransforms
from esp_medsam.workflows.datalist import check_targets, read_mask


@dataclass(frozen=True)
class TrainingSlice:
    """One slice, as it is shown, scaled to fit the network's input.

    Attributes:
        image: uint8, ``(1 or 3, h, w)``; 0..255 is what is shown as black to white.
        label: uint8 0 or 1, one row per target of the modality, ``(T, h, w)``.
        known: Which targets are annotated or known to be absent, ``(T,)`` bool.
        modality: Name of the modality.
        dataset: Name of the set it comes from.
    """

    image: Tensor
    label: Tensor
    known: Tensor
    modality: str
    dataset: str


def slices_of(
    item: Mapping[str, Any],
    table: ModalityTable,
    input_size: tuple[int, int],
    transforms: Mapping[str, ModalityTransforms] | None = None,
) -> list[TrainingSlice]:
    """Read one item of a datalist as slices.

    Args:
        item: See :func:`~esp_medsam.workflows.datalist.read_datalist`.
        table: Modalities and targets.
        input_size: ``(H, W)`` that the slices are scaled to fit.
        transforms: Transforms by modality, in place of the defaults.
    """
    check_targets(item, table)
    modality = table[item["modality"]]
    ct_input = item.get("ct_input")
    image = read(item["image"], modality=modality.name, table=table, ct_input=ct_input)
    assert image.pixels is not None
    image = MeasureImage(transforms)(image.pixels, image)

    absent = set(item.get("absent", ()))
    names = [target.name for target in modality.targets]
    masks = np.zeros((len(names), *image.spatial_shape), dtype=np.uint8)
    for target, paths in item["labels"].items():
        for path in paths:
            masks[names.index(target)] |= read_mask(path, image, table)
    known = torch.tensor([name in absent or name in item["labels"] for name in names])

    views = Slices(as_meta_tensor(image).as_tensor(), image, transforms=transforms)
    slices = []
    for index in range(len(views)):
        view = views[index]
        label = views.display.show(torch.from_numpy(masks), index)[:, view.box[0], view.box[1]]
        size = content_size(view.size, views.spacing, input_size, "fit")
        device = torch.device("cpu")
        content = to_content([view.pixels], size, view.intensity_range, device)[0]
        scaled = to_content([label], size, (0.0, 1.0), device)[0]
        slices.append(
            TrainingSlice(
                (content * 255.0).round().to(torch.uint8),
                (scaled >= 0.5).to(torch.uint8),
                known,
                modality.name,
                str(item.get("dataset", modality.name)),
            )
        )
    return slices
