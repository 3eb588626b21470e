"""Score a network on a datalist, set by set and target by target, on the images' own grids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from monai.inferers import Inferer
from monai.metrics import compute_dice
from torch import Tensor

from esp_medsam.image import segmentation_of
from esp_medsam.io.load import as_meta_tensor
from esp_medsam.modality import ModalityTable
from esp_medsam.transforms.by_modality import MeasureImage, ModalityTransforms
from esp_medsam.transforms.label_map import mask_of
from esp_medsam.workflows.datalist import Item, check_targets
from esp_medsam.workflows.datalist_images import MaskReader, read_image


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
    items: Sequence[Item],
    *,
    table: ModalityTable,
    inferer: Inferer,
    network: Any,
    transforms: Mapping[str, ModalityTransforms] | None = None,
    ct_input: str | None = None,
    frame: int | None = None,
    tracked: Callable[[Sequence[Item]], Iterable[Item]] | None = None,
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
    measure = MeasureImage(transforms)
    for item in items if tracked is None else tracked(items):
        record = read_image(item, table, ct_input=ct_input, frame=frame)
        assert record.pixels is not None
        image = as_meta_tensor(measure(record.pixels, record))
        probability = inferer(image[None], network)
        found = dict(
            zip(
                segmentation_of(probability.meta).targets,
                probability.as_tensor()[0],
                strict=True,
            )
        )
        reader = MaskReader(record, table)
        labeled = reader.labeled(item)
        for target in table[item.modality].targets:
            truth = reader.of_target(item, target.name)
            if truth is None or target.name not in found:
                continue
            mask, _ = mask_of(found[target.name], target.clean_up)
            if labeled is not None:
                mask, truth = mask * torch.from_numpy(labeled), truth & labeled
            yield TargetScore(
                item.set_name,
                item.modality,
                target.name,
                item.image,
                bool(truth.any()),
                _dice(mask, torch.from_numpy(truth)),
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


def _dice(mask: Tensor, truth: Tensor) -> float:
    """Return the Dice coefficient; 1 where both are empty."""
    dice = compute_dice(mask[None, None], truth[None, None], ignore_empty=False)
    return float(dice)
