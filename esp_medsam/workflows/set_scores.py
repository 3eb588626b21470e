"""Dice of validation slices, averaged by modality and dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import fmean
from typing import Any, NamedTuple

import torch.distributed as dist
from ignite.engine import Events
from monai.engines import SupervisedEvaluator
from monai.metrics import compute_dice
from torch import Tensor

from esp_medsam.modality import ModalityTable


PREFIX = "dice_"
"""Prefix of the per-modality means in an evaluator's metrics."""


class SliceScore(NamedTuple):
    """Score of one validation slice.

    Attributes:
        place: Position in the validation dataset.
        dataset: Name of its set.
        modality: Name of its modality.
        dice: Mean Dice of the targets in the slice, 0 to 1, at the network's input size.
    """

    place: int
    dataset: str
    modality: str
    dice: float


class SetScores:
    """Scores of each slice that an evaluator sees; metrics ``dice_<modality>`` are the means.

    Slices without any target have no Dice and are left out.

    Args:
        table: Modalities, whose indices batches contain.
        masks_and_truth: Returns masks and truth, ``(B, T, H, W)``, from the evaluator's output.
    """

    def __init__(
        self,
        table: ModalityTable,
        masks_and_truth: Callable[[Mapping[str, Any]], tuple[Tensor, Tensor]],
    ) -> None:
        self.names = {index: name for name, index in table.indices.items()}
        self.masks_and_truth = masks_and_truth
        self.scores: list[SliceScore] = []

    def attach(self, engine: SupervisedEvaluator) -> None:
        """Register on the evaluator, before handlers that read its metrics."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._close)

    def state_dict(self) -> dict[str, Any]:
        """Return the scores of the last run."""
        return {"scores": [tuple(score) for score in self.scores]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the scores."""
        self.scores = [SliceScore(*score) for score in state["scores"]]

    def by_set(self) -> dict[str, float]:
        """Return the mean Dice of each set, sorted by set."""
        return means((score.dataset, score.dice) for score in self.scores)

    def _begin(self, engine: SupervisedEvaluator) -> None:
        del engine
        self.scores = []

    def _add(self, engine: SupervisedEvaluator) -> None:
        batch = engine.state.batch
        dice = compute_dice(*self.masks_and_truth(engine.state.output), ignore_empty=True)
        for row, place, name, index in zip(
            dice.nanmean(1).tolist(),
            batch["slice"].tolist(),
            batch["dataset"],
            batch["modality"].tolist(),
            strict=True,
        ):
            if row == row:  # NaN if there is no target
                self.scores.append(SliceScore(place, name, self.names[index], row))

    def _close(self, engine: SupervisedEvaluator) -> None:
        if dist.is_initialized():
            parts: list[list[SliceScore]] = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(parts, self.scores)
            self.scores = [score for part in parts for score in part]
        self.scores.sort()
        for name, mean in means((score.modality, score.dice) for score in self.scores).items():
            engine.state.metrics[f"{PREFIX}{name}"] = mean


def means(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the mean of the values of each name, sorted by name."""
    grouped: dict[str, list[float]] = {}
    for name, value in values:
        grouped.setdefault(name, []).append(value)
    return {name: fmean(grouped[name]) for name in sorted(grouped)}
