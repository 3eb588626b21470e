"""Scores of how well the presence and absence of targets are predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.engines import SupervisedEvaluator

from esp_medsam.losses import Annotation
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.set_scores import means


KEPT = "present_kept_"
"""Prefix of the names of the shares of present targets whose mask is kept."""

EMPTIED = "absent_emptied_"
"""Prefix of the names of the shares of absent targets whose mask is left empty."""


class PresenceScores:
    """Metrics of a network's presence predictions by modality, over slices and targets.

    ``present_kept_<modality>`` is the share of targets in a slice whose presence probability is
    0.5 or more, ``absent_emptied_<modality>`` the share of targets known to be absent from it
    whose probability is below 0.5. Networks that do not predict presence get neither.

    Args:
        table: Modalities, in the order of the batches' modality indices.
        annotation_of: Returns the annotation from the evaluator's output.
    """

    def __init__(
        self,
        table: ModalityTable,
        annotation_of: Callable[[Mapping[str, Any]], Annotation] = itemgetter("label"),
    ) -> None:
        self.annotation_of = annotation_of
        self.names = {index: name for name, index in table.indices.items()}
        self._answers: list[tuple[str, bool]] = []

    def attach(self, engine: SupervisedEvaluator) -> None:
        """Register on the evaluator, before the handlers that read its metrics."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._close)

    def _begin(self, engine: SupervisedEvaluator) -> None:
        del engine
        self._answers = []

    def _add(self, engine: SupervisedEvaluator) -> None:
        output: dict[str, Any] = engine.state.output
        logits = output["pred"].presence_logits
        annotation = self.annotation_of(output).rows(logits.shape[1])
        present, counts = annotation.presence_of_known()
        said = logits[annotation.known] >= 0
        modality = engine.state.batch["modality"].to(logits.device)
        modality = modality[:, None].expand_as(annotation.known)[annotation.known]
        answers = torch.stack((modality, present, said))[:, counts]
        for index, is_present, is_said in answers.T.tolist():
            metric = KEPT if is_present else EMPTIED
            self._answers.append((f"{metric}{self.names[index]}", is_said == is_present))

    def _close(self, engine: SupervisedEvaluator) -> None:
        answers = self._answers
        if dist.is_initialized():
            parts: list[list[tuple[str, bool]]] = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(parts, answers)
            answers = [answer for part in parts for answer in part]
        engine.state.metrics.update(means(answers))
