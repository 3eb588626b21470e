"""Merge target probabilities into one labelmap."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from esp_medsam.image import (
    FOREGROUND,
    SEGMENTATION_KEY,
    Image,
    SliceJump,
    image_of,
    ml_text,
    modality_of,
    segmentation_of,
)
from esp_medsam.modality import CleanUp, ModalityTable, Target
from esp_medsam.orientation import display_of_image
from esp_medsam.transforms.clean_up import clean_up
from esp_medsam.transforms.slice_jump import slice_jumps


class LabelMap:
    """Merge the probabilities of several targets into one labelmap.

    A target's mask is every voxel from its threshold on, cleaned, both as the table says. If masks
    overlap, the higher probability wins; if equal, the target that comes first in the table.
    """

    def __call__(
        self, probability: Tensor, targets: Sequence[Target], voxel_ml: float | None = None
    ) -> tuple[Tensor, list[int]]:
        """Return the labelmap and the indices of the targets whose mask is not the plain one.

        Args:
            probability: uint8 ``(T, *spatial)``, 255 times the probability.
            targets: The T targets, in the same order.
            voxel_ml: Volume of a voxel in milliliters; None if unknown.

        Returns:
            Labels as numbered in the table, uint8 ``(1, *spatial)``, 0 where there is no target;
            indices of the targets with removed or added voxels, or another threshold than 0.5.

        Raises:
            TypeError: If the probability is not uint8.
            ValueError: If there is not one target per channel.
        """
        if probability.dtype != torch.uint8:
            msg = f"probability must be uint8, 255 times the probability; got {probability.dtype}."
            raise TypeError(msg)
        if len(probability) != len(targets):
            msg = f"probability must hold one channel per target; got {len(probability)} channels "
            raise ValueError(msg + f"for {len(targets)} targets.")
        shape = probability.shape[1:]
        # In the order in which the probability lies in memory.
        labelmap = torch.zeros_like(probability[0]) if targets else probability.new_zeros(shape)
        cleaned: dict[int, Tensor] = {}
        changed = []
        for place, target in enumerate(targets):
            mask = None
            if target.clean_up != CleanUp():
                mask, is_changed = mask_of(probability[place], target, voxel_ml)
            else:
                is_changed = level_of(target) != FOREGROUND
            if is_changed:
                changed.append(place)
                if mask is not None:
                    cleaned[place] = mask
        # Plane by plane: of a volume, each mask would take as much memory as the labelmap.
        if labelmap.ndim < 3:
            _merge(labelmap, probability, targets, cleaned)
            return labelmap[None], changed
        axis = _slowest(labelmap)
        for index, plane in enumerate(labelmap.unbind(axis)):
            masks = {place: mask.select(axis, index) for place, mask in cleaned.items()}
            _merge(plane, probability.select(axis + 1, index), targets, masks)
        return labelmap[None], changed


def _slowest(values: Tensor) -> int:
    """Return the axis along which planes lie apart in memory."""
    return max(range(values.ndim), key=values.stride)


def _merge(
    labelmap: Tensor,
    probability: Tensor,
    targets: Sequence[Target],
    cleaned: Mapping[int, Tensor],
) -> None:
    """Write labels into a part of a labelmap, which holds zeros.

    Args:
        labelmap: uint8 of any shape.
        probability: uint8 ``(T, *shape)``.
        targets: The T targets.
        cleaned: Masks that clean-up changed, by place.
    """
    highest = torch.zeros_like(labelmap)
    for place, (values, target) in enumerate(zip(probability, targets, strict=True)):
        mask = cleaned.get(place)
        if mask is None:
            mask = values >= level_of(target)
        else:  # a filled hole is foreground, however low its probability
            values = torch.where(mask, values.clamp(min=level_of(target)), values)
        mask = mask & (values > highest)
        labelmap.masked_fill_(mask, target.label)
        highest = torch.where(mask, values, highest)


ExpectedDice = Callable[[str, str, float | None], float | None]
"""Function from modality, target and confidence to a Dice, or None if it is unknown."""


class LabelMapd(MapTransform):
    """Dictionary form of :class:`LabelMap`.

    The labelmap replaces the probability, which stays, uncopied, under ``probability``. The
    confidence of a target whose mask is not the plain one is measured again. Voxels are counted; a
    mask smaller than the table expects leads to a warning but is never removed.

    Args:
        keys: Keys of MetaTensors that the inferer made, usually ``pred``.
        table: The modalities and targets of the weights.
        probability_key: Key under which the probability stays.
        allow_missing_keys: Whether to skip missing keys.
        expected_dice: Function from modality, target and confidence to the average Dice of such
            masks; None leaves it out.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        table: ModalityTable,
        probability_key: str = "probability",
        allow_missing_keys: bool = False,
        expected_dice: ExpectedDice | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.table = table
        self.expected_dice = expected_dice
        self.probability_key = probability_key
        self.label_map = LabelMap()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with the labelmap under the key and the probability beside it."""
        result = dict(data)
        for key in self.key_iterator(result):
            pred: MetaTensor = result[key]
            probability = pred.as_tensor().cpu()
            segmentation, image = segmentation_of(pred.meta), image_of(pred.meta)
            modality = modality_of(image)
            targets = self.table.select(modality, segmentation.targets)
            labelmap, changed = self.label_map(probability, targets, image.grid.cleaned_ml)
            confidence = list(segmentation.confidence)
            for place in changed:
                values = probability[place]
                mask, _ = mask_of(values, targets[place], image.grid.cleaned_ml)
                confidence[place] = confidence_of(values, mask)
            voxels = _voxel_counts(labelmap[0], targets)
            segmentation = replace(
                segmentation,
                confidence=tuple(confidence),
                voxels=voxels,
                jumps=_jumps(labelmap[0], targets, image, segmentation.plane),
                expected_dice=self._expected_dice(modality, segmentation.targets, confidence),
                warnings=(
                    *segmentation.warnings,
                    *_not_cleaned(targets, image),
                    *_hardly_believed(voxels, targets, image),
                ),
            )
            meta = {**pred.meta, SEGMENTATION_KEY: segmentation}
            result[key] = MetaTensor(labelmap, meta=meta)
            result[self.probability_key] = MetaTensor(probability, meta=meta)
        return result

    def _expected_dice(
        self, modality: str, names: Sequence[str], confidence: Sequence[float | None]
    ) -> tuple[float | None, ...]:
        if self.expected_dice is None:
            return ()
        pairs = zip(names, confidence, strict=True)
        return tuple(self.expected_dice(modality, name, value) for name, value in pairs)


def _voxel_counts(labelmap: Tensor, targets: Sequence[Target]) -> tuple[int, ...]:
    """Return each target's voxel count, slice by slice, because bincount widens what it counts."""
    counts = torch.zeros(256, dtype=torch.int64)
    for one in labelmap.unbind(_slowest(labelmap)):
        counts += torch.bincount(one.flatten(), minlength=256)
    return tuple(int(counts[target.label]) for target in targets)


def _jumps(
    labelmap: Tensor, targets: Sequence[Target], image: Image, plane: str | None
) -> tuple[SliceJump | None, ...]:
    """Return the largest jump of each target along the axis of segmentation; none for pictures."""
    axis = display_of_image(image, plane).slice_axis
    if axis is None:
        return ()
    return tuple(slice_jumps(labelmap.numpy(), [target.label for target in targets], axis))


def _not_cleaned(targets: Sequence[Target], image: Image) -> Iterator[str]:
    """Yield a warning for targets whose smallest volume could not be applied to a volume."""
    names = [target.name for target in targets if target.clean_up.min_ml]
    if names and image.grid.is_volume and image.grid.cleaned_ml is None:
        yield (
            f"min_ml was not applied to {', '.join(names)}: the volume of a voxel is not known, "
            "because the slices are not evenly stacked or there is only one."
        )


def _hardly_believed(
    voxels: Sequence[int], targets: Sequence[Target], image: Image
) -> Iterator[str]:
    """Yield a warning for masks that are too small for the targets they are labeled as."""
    for count, target in zip(voxels, targets, strict=True):
        ml = image.grid.ml_of(count)
        if count and ml is not None and ml < target.least_ml:
            yield (
                f"{target.name}: {ml_text(ml)} were found; from {target.least_ml:g} ml it is "
                "believable. Look at it before you use it."
            )


def level_of(target: Target) -> int:
    """Return the least probability in a target's mask, from 1 to 255."""
    return max(ceil(round(255 * target.threshold, 6)), 1)


def mask_of(
    probability: Tensor, target: Target, voxel_ml: float | None = None
) -> tuple[Tensor, bool]:
    """Return a target's mask, and whether it is another one than that of probability 0.5 or more.

    Args:
        probability: uint8 of any shape on the CPU.
        target: The target, with its threshold and clean-up.
        voxel_ml: Volume of a voxel in milliliters; None if unknown.
    """
    level = level_of(target)
    mask = probability >= level
    cleaned = clean_up(mask.numpy(), target.clean_up, voxel_ml)
    if cleaned is None:
        return mask, level != FOREGROUND
    return torch.from_numpy(cleaned), True


def confidence_of(probability: Tensor, mask: Tensor | None = None) -> float | None:
    """Return the mean probability inside a target's mask; None if the mask is empty.

    Args:
        probability: uint8 ``(*spatial)`` on the CPU, 255 times the probability.
        mask: Bool of the same shape; None means where the probability is at least 0.5.
    """
    counts = torch.zeros(256, dtype=torch.int64)
    axis = _slowest(probability)
    for place, part in enumerate(probability.unbind(axis)):  # bincount widens what it counts
        values = part if mask is None else part[mask.select(axis, place)]
        counts += torch.bincount(values.flatten(), minlength=256)
    if mask is None:
        counts[:FOREGROUND] = 0
    size, total = int(counts.sum()), int((counts * torch.arange(256)).sum())
    return total / (255.0 * size) if size else None
