"""Score a network on a datalist, case by case, on each image's own grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers import Inferer
from torch import Tensor

from esp_medsam.image import FOREGROUND, Image, segmentation_of
from esp_medsam.io.load import as_meta_tensor
from esp_medsam.modality import ModalityTable, Target
from esp_medsam.setting_types import Protocol
from esp_medsam.settings import TOLERANCE
from esp_medsam.transforms.by_modality import MeasureImage, ModalityTransforms
from esp_medsam.transforms.label_map import confidence_of, mask_of
from esp_medsam.workflows.case_metrics import Distances, distances, overlap, scale_of
from esp_medsam.workflows.case_score import PresenceError, TargetScore
from esp_medsam.workflows.datalist import Item
from esp_medsam.workflows.datalist_images import MaskReader, read_image
from esp_medsam.workflows.released_protocol import UNIT, released_measures


@dataclass(frozen=True, kw_only=True, eq=False)
class CaseScorer:
    """Scorer that segments images as inference does, and compares masks with annotations.

    Args:
        table: Modalities and targets of the network.
        inferer: Inferer that computes uint8 probabilities from an image and the network.
        network: Network that the inferer accepts.
        transforms: Transforms by modality, the same as in the inferer.
        ct_input: Meaning of CT values if an item does not state it.
        frame: Number of the volume in a 4-D file, from 0.
        tolerance: Tolerance of the surface Dice, in mm, or in pixels for pictures without spacing.
        protocol: How measures are taken: on the image's own grid, or as the released script does.
    """

    table: ModalityTable
    inferer: Inferer
    network: Any
    transforms: Mapping[str, ModalityTransforms] | None = None
    ct_input: str | None = None
    frame: int | None = None
    tolerance: float = TOLERANCE
    protocol: Protocol = "native"

    def score(self, item: Item) -> tuple[TargetScore, ...]:
        """Return one score for each target that is annotated or known to be absent.

        Args:
            item: Item of a datalist, whose targets must be in the table; see
                :func:`~esp_medsam.workflows.datalist.check_targets`.

        Raises:
            EspMedSamError: If the image or a mask cannot be read, or the image is a volume and the
                protocol is ``released``.
        """
        record = read_image(item, self.table, ct_input=self.ct_input, frame=self.frame)
        assert record.pixels is not None
        image = as_meta_tensor(MeasureImage(self.transforms)(record.pixels, record))
        probability = self.inferer(image[None], self.network)
        segmentation = segmentation_of(probability.meta)
        places = {name: place for place, name in enumerate(segmentation.targets)}
        reader = MaskReader(record, self.table)
        labeled = reader.labeled(item)
        scores = []
        for target in self.table[item.modality].targets:
            truth = reader.of_target(item, target.name)
            if truth is None or target.name not in places:
                continue
            place = places[target.name]
            case = _Case(item, record, target, truth, labeled)
            values = probability.as_tensor()[0, place]
            if self.protocol == "released":
                score = _released_score(case, values)
            else:
                score = _native(case, values, self.tolerance)
            confidence = segmentation.confidence[place] if segmentation.confidence else None
            mask, is_changed = mask_of(values, target, record.grid.cleaned_ml)
            if is_changed and self.protocol != "released":
                confidence = confidence_of(values, mask)
            scores.append(score._replace(confidence=confidence if score.voxels else None))
        return tuple(scores)


class _Case(NamedTuple):
    """A target of an item, with its annotation."""

    item: Item
    image: Image
    target: Target
    truth: npt.NDArray[np.bool_]
    labeled: npt.NDArray[np.bool_] | None

    def masks(self) -> tuple[Tensor, Tensor | None]:
        """Return the true mask and the mask of labeled pixels, as tensors."""
        known = None if self.labeled is None else torch.from_numpy(self.labeled)
        truth = torch.from_numpy(self.truth)
        return (truth if known is None else truth & known), known

    def score(self, *, found: int, true: int, present: bool, **measures: Any) -> TargetScore:
        """Return the score of the case, from its annotation and the measures."""
        anything = measures.pop("anything", found > 0)
        error: PresenceError = ""
        if anything != present:
            error = "missed" if present else "false alarm"
        return TargetScore(
            dataset=self.item.set_name,
            modality=self.item.modality,
            target=self.target.name,
            image=self.item.image,
            present=present,
            voxels=found,
            true_voxels=true,
            error=error,
            patient=self.item.patient,
            **measures,
        )


def _native(case: _Case, probability: Tensor, tolerance: float) -> TargetScore:
    """Return the score, on the image's own grid, of the mask that a user would get."""
    mask, _ = mask_of(probability, case.target, case.image.grid.cleaned_ml)
    mask = mask > 0
    truth, labeled = case.masks()
    if labeled is not None:
        mask &= labeled
    unit, spacing = scale_of(case.image)
    present = bool(truth.any())
    apart = Distances()
    if present and unit is not None:
        apart = distances(mask, truth, spacing=spacing, tolerance=tolerance, labeled=labeled)
    return case.score(
        found=int(mask.sum()),
        true=int(truth.sum()),
        present=present,
        unit=unit,
        tolerance=tolerance,
        **overlap(mask, truth)._asdict(),
        **apart._asdict(),
    )


def _released_score(case: _Case, probability: Tensor) -> TargetScore:
    """Return the score as the released script computes it."""
    truth, labeled = case.masks()
    measures = released_measures(probability, truth, labeled)._asdict()
    mask = probability >= FOREGROUND
    return case.score(
        found=int((mask if labeled is None else mask & labeled).sum()),
        true=int(truth.sum()),
        anything=measures.pop("found"),
        unit=UNIT,
        protocol="released",
        **measures,
    )
