"""Training slices of a datalist item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.image import Image
from esp_medsam.inferers.preparation import Slices
from esp_medsam.inferers.resizing import content_size, to_content
from esp_medsam.io.load import as_meta_tensor
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms.by_modality import MeasureImage, ModalityTransforms
from esp_medsam.workflows.datalist import Item, check_targets
from esp_medsam.workflows.datalist_images import MaskReader, read_image


MARGIN = 0.35
"""Fraction of the window width that slices in Hounsfield units keep beyond each end of it."""


@dataclass(frozen=True)
class TrainingSlice:
    """One displayed slice, scaled to fit the network's input.

    Attributes:
        image: uint8, ``(1 or 3, h, w)``.
        label: uint8 0 or 1, one row per target of the modality, ``(T, h, w)``.
        unlabeled: uint8 0 or 1, ``(1, h, w)``: pixels for which the label says nothing.
        known: Which targets are annotated or known to be absent, ``(T,)`` bool.
        modality: Name of the modality.
        dataset: Name of the set that the slice comes from.
        window: Image values, in 0..1, that inference shows as black and white.
    """

    image: Tensor
    label: Tensor
    unlabeled: Tensor
    known: Tensor
    modality: str
    dataset: str
    window: tuple[float, float] = (0.0, 1.0)

    @property
    def is_filled(self) -> bool:
        """Whether the slice contains any target."""
        return bool(self.label.any())


def slices_of(
    item: Item,
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
    modality = table[item.modality]
    image = read_image(item, table)
    assert image.pixels is not None
    image = MeasureImage(transforms)(image.pixels, image)
    masks, known = _annotation_of(item, image, table)

    views = Slices(as_meta_tensor(image).as_tensor(), image, transforms=transforms)
    slices = []
    for index in range(len(views)):
        view = views[index]
        label = views.display.show(masks, index)[:, view.box[0], view.box[1]]
        size = content_size(view.size, views.spacing, input_size, "fit")
        device = torch.device("cpu")
        kept, window = _kept_range(view.intensity_range, image)
        content = to_content([view.pixels], size, kept, device)[0]
        scaled = to_content([label], size, (0.0, 1.0), device)[0]
        slices.append(
            TrainingSlice(
                (content * 255.0).round().to(torch.uint8),
                (scaled[:-1] >= 0.5).to(torch.uint8),
                (scaled[-1:] > 0.0).to(torch.uint8),
                known,
                modality.name,
                item.set_name,
                window,
            )
        )
    return slices


def _kept_range(
    shown: tuple[float, float], image: Image
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the range of values that a slice keeps, and inference's window within that range.

    In Hounsfield units the range is wider than the window, so that training can vary the window.
    """
    if image.unit != "HU" or shown != image.intensity_range:  # otherwise already shown as 0..1
        return shown, (0.0, 1.0)
    low, high = shown
    margin = MARGIN * (high - low)
    edge = MARGIN / (1.0 + 2.0 * MARGIN)
    return (low - margin, high + margin), (edge, 1.0 - edge)


def _annotation_of(item: Item, image: Image, table: ModalityTable) -> tuple[Tensor, Tensor]:
    """Return the masks of all targets plus, last, the unlabeled pixels; and the known targets.

    The masks are uint8 of 0 or 1, ``(T + 1, *spatial)``; the known targets are bool, ``(T,)``.
    """
    targets = [target.name for target in table[item.modality].targets]
    masks = np.zeros((len(targets) + 1, *image.grid.shape), dtype=np.uint8)
    known = torch.zeros(len(targets), dtype=torch.bool)
    reader = MaskReader(image, table)
    for row, target in enumerate(targets):
        mask = reader.of_target(item, target)
        if mask is None:
            continue
        if target in item.labels and not mask.any():
            msg = (
                f"labels of {item.image} must hold some {target}; they hold none. List it "
                "under absent, or leave it out if it was not looked for."
            )
            raise OptionError(msg)
        masks[row], known[row] = mask, True
    labeled = reader.labeled(item)
    if labeled is not None:
        masks[-1] = ~labeled
    return torch.from_numpy(masks), known
