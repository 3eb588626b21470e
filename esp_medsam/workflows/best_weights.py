"""Keep the weights with the best validation score."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from esp_medsam.io.atomic import atomic_file, clear_temporaries
from esp_medsam.io.weights_record import TrainedWith, check_sidecar
from esp_medsam.networks import ESPMedSAM
from esp_medsam.training_settings import TrainSettings
from esp_medsam.workflows.averaging import AveragedWeights
from esp_medsam.workflows.distributed import is_first
from esp_medsam.workflows.weights import record_weights, write_state_dict


logger = logging.getLogger(__name__)


class KeepBest:
    """Handler that writes the weights whenever validation matches or beats the best score.

    Args:
        average: The averaged weights, which are validated.
        path: File to write or replace.
        metric: Metric of the evaluator to rank weights by; higher is better.
        trained_with: Input that the weights are trained with, for their record.
    """

    def __init__(
        self,
        average: AveragedWeights,
        path: str | Path,
        *,
        metric: str = "val_mean_dice",
        trained_with: TrainedWith | None = None,
    ) -> None:
        self.average = average
        self.path = Path(path)
        self.metric = metric
        self.trained_with = trained_with
        self.best: float | None = None
        self.since = 0
        self.is_writer = is_first()

    def state_dict(self) -> dict[str, float | int | None]:
        """Return the best score, and the number of validations since then."""
        return {"best": self.best, "since": self.since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a best score and the number of validations since then."""
        self.best, self.since = state["best"], state["since"]

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the weights if no earlier weights scored higher.

        On a tie the latest weights win: presence heads still learn if masks are frozen.
        """
        value = float(engine.state.metrics.get(self.metric, float("nan")))
        self.since += 1
        is_better = self.best is None or value > self.best
        if self.is_writer and (is_better or value == self.best):
            save_weights(self.average.network, self.path, self.trained_with)
        if is_better:
            self.best = -1.0 if math.isnan(value) else value
            self.since = 0

    def tell(self) -> None:
        """Log the path of the best weights, and write them first if there was no validation."""
        if not self.is_writer:
            return
        if self.best is None:
            save_weights(self.average.network, self.path, self.trained_with)
        name = "mean Dice" if self.metric == "val_mean_dice" else self.metric
        score = "no validation" if self.best is None else f"{name} {self.best:.3f}"
        logger.info("Best weights (%s): %s.", score, self.path)


class EarlyStop:
    """Handler that ends training after too many validations without improvement.

    Args:
        best: Handler that counts the validations since the best one.
        patience: Validations without improvement that end training; 0 for never.
    """

    def __init__(self, best: KeepBest, *, patience: int) -> None:
        self.best = best
        self.patience = patience

    def attach(self, engine: Engine) -> None:
        """Register on the trainer, after its validation."""
        if self.patience:
            engine.add_event_handler(Events.STARTED, self)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """End training if patience has run out, also on resuming a run that has ended."""
        if self.best.since >= self.patience:
            logger.info(
                ("Training ends after epoch %d: no improvement in %d validations (patience)."),
                engine.state.epoch,
                self.best.since,
            )
            engine.terminate()


def trained_with(settings: TrainSettings) -> TrainedWith:
    """Return the input size and normalization of a training run, for its weights' record."""
    return TrainedWith(
        tuple(settings.input_size), tuple(settings.pixel_mean), tuple(settings.pixel_std)
    )


def save_weights(
    network: nn.Module, path: str | Path, trained_with: TrainedWith | None = None
) -> None:
    """Write a network's state dict in half precision, and its record, each one atomically.

    Partial files that killed runs left beside it are removed.

    Args:
        network: Network to write; counters and other integers keep their type.
        path: File to write or replace.
        trained_with: Input that the weights were trained with, for their record.

    Raises:
        OutputExistsError: If the record's path holds a file that is not a record.
        OutputError: If a file cannot be written.
    """
    state = {
        name: value.detach().cpu().half() if value.is_floating_point() else value.detach().cpu()
        for name, value in network.state_dict().items()
    }
    asked = None
    if isinstance(network, ESPMedSAM):  # a copy with the rounded weights
        asked = copy.deepcopy(network).cpu().float().eval()
        asked.load_state_dict(state)
    check_sidecar(path)
    clear_temporaries(Path(path).parent)
    with atomic_file(Path(path)) as file:
        write_state_dict(state, file)
    record_weights(path, asked, trained_with)
