"""Score a network on a datalist, set by set and target by target, on the images' own grids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from monai.inferers import Inferer
from monai.metrics import compute_dice
from monai.transforms import Compose
from torch import Tensor

from esp_medsam.image import Image, image_of, segmentation_of
from esp_medsam.io import LoadMedicalImaged
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms import MeasureImaged, ModalityTransforms
from esp_medsam.transforms.label_map import mask_of
from esp_medsam.workflows.datalist import check_targets, read_mask


class TargetScore(NamedTuple):
    """How one target of one image or volume came out.

    Attributes:
        dataset: Set of the image.
        modality: Its modality.
        target: Name of the target.
        image: Path of the image.
        present: Whether the truth holds any of the target.
        dice: Dice coefficient, 0 to 1; where the target is absent 1 if nothing was found, else 0.
        voxels: Voxels, or pixels, that were found.
        true_voxels: Those of the truth.
    """

    dataset: str
    modality: str
    target: str
    image: str
    present: bool
    dice: float
    voxels: int
    true_voxels: int


@dataclass(frozen=True)
class Score:
    """A target of a set, over all its images.

    Attributes:
        dataset: Name of the set.
        modality: Name of the modality.
        target: Name of the target.
        present: Images or volumes that hold the target.
        dice: Mean Dice over those, 0 to 1; None where there is none.
        absent: Images known not to hold it.
        empty: Share of those for which nothing was found; None where there is none.
    """

    dataset: str
    modality: str
    target: str
    present: int
    dice: float | None
    absent: int
    empty: float | None


def target_scores(
    items: Sequence[Mapping[str, Any]],
    *,
    table: ModalityTable,
    inferer: Inferer,
    network: Any,
    transforms: Mapping[str, ModalityTransforms] | None = None,
    ct_input: str | None = None,
    frame: int | None = None,
    tracked: Callable[[Sequence[Mapping[str, Any]]], Iterable[Mapping[str, Any]]] | None = None,
) -> Iterator[TargetScore]:
    """Segment each item as inference does and compare what is known of it.

    Args:
        items: Items of a datalist, see :func:`~esp_medsam.workflows.datalist.read_datalist`.
        table: Modalities and targets of the network.
        inferer: From an image and the network to uint8 probabilities.
        network: Anything that the inferer takes.
        transforms: Transforms by modality, as the inferer has them.
        ct_input: What CT values are where an item does not say.
        frame: Which volume of a 4-D file, from 0.
        tracked: Hands the items on one by one, and shows how far they are; None shows nothing.

    Yields:
        One score for each target that is annotated or known to be absent.

    Raises:
        ModalityError: If the modality of an item is not in the table; before any is read.
        TargetError: If one of its targets is not.
    """
    for item in items:
        check_targets(item, table)
    for item in items if tracked is None else tracked(items):
        preprocessing = Compose(
            [
                LoadMedicalImaged(
                    "image",
                    table=table,
                    modality=item["modality"],
                    ct_input=item.get("ct_input", ct_input),
                    frame=frame,
                ),
                MeasureImaged("image", transforms=transforms),
            ]
        )
        image = preprocessing({"image": item["image"]})["image"]
        probability = inferer(image[None], network)
        found = dict(
            zip(
                segmentation_of(probability.meta).targets,
                probability.as_tensor()[0],
                strict=True,
            )
        )
        record = image_of(image.meta)
        for target in table[item["modality"]].targets:
            truth = _truth(item, target.name, table, record)
            if truth is not None and target.name in found:
                mask, _ = mask_of(found[target.name], target.clean_up)
                yield TargetScore(
                    str(item.get("dataset", item["modality"])),
                    item["modality"],
                    target.name,
                    str(item["image"]),
                    bool(truth.any()),
                    _dice(mask, truth),
                    int(mask.sum()),
                    int(truth.sum()),
                )


def summarize(scores: Iterable[TargetScore]) -> list[Score]:
    """Return one score for each target of each set, in the order in which they appear."""
    groups: dict[tuple[str, str, str], list[TargetScore]] = {}
    for score in scores:
        groups.setdefault((score.dataset, score.modality, score.target), []).append(score)
    return [_summary(*key, group) for key, group in groups.items()]


def _summary(dataset: str, modality: str, target: str, group: Sequence[TargetScore]) -> Score:
    present = [score.dice for score in group if score.present]
    absent = [score.dice for score in group if not score.present]
    return Score(
        dataset,
        modality,
        target,
        len(present),
        sum(present) / len(present) if present else None,
        len(absent),
        sum(absent) / len(absent) if absent else None,
    )


def _truth(
    item: Mapping[str, Any], target: str, table: ModalityTable, image: Image
) -> Tensor | None:
    """Return a target's mask; None where nothing is known of it."""
    if target in item["labels"]:
        paths = item["labels"][target]
        masks = [torch.from_numpy(read_mask(path, image, table)) for path in paths]
        return torch.stack(masks).amax(0) > 0
    if target in item.get("absent", ()):
        return torch.zeros(image.spatial_shape, dtype=torch.bool)
    return None


def _dice(mask: Tensor, truth: Tensor) -> float:
    """Return the Dice coefficient; 1 where both are empty."""
    dice = compute_dice(mask[None, None], truth[None, None], ignore_empty=False)
    return float(dice)
