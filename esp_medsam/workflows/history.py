"""Metrics of each training epoch, for curves and comparison."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import Tensor
from torch.optim import Optimizer

from esp_medsam.io.atomic import atomic_file
from esp_medsam.workflows.distributed import is_first, mean_over_processes


class History:
    """Record of each epoch: mean loss, learning rate, skipped steps, seconds, validation metrics.

    Args:
        validator: Evaluator whose metrics are recorded if it ran in the epoch.
        optimizer: The trainer's optimizer.
        path: JSON file to write or replace after each epoch; None writes no file.
    """

    def __init__(
        self,
        validator: SupervisedEvaluator,
        optimizer: Optimizer,
        *,
        path: str | Path | None = None,
    ) -> None:
        self.validator = validator
        self.optimizer = optimizer
        self.path = None if path is None else Path(path)
        self.epochs: list[dict[str, Any]] = []
        self._total, self._steps, self._skipped = 0.0, 0, 0
        self._before, self._since = 0.0, time.monotonic()

    def attach(self, engine: SupervisedTrainer) -> None:
        """Register on the trainer, after its validation."""
        engine.add_event_handler(Events.STARTED, self._start_clock)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._close)

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs, and the sums of the open epoch."""
        return {
            "epochs": self.epochs,
            "open": [self._total, self._steps, self._skipped],
            "seconds": self._seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the epochs and sums."""
        self.epochs = [dict(epoch) for epoch in state["epochs"]]
        self._total, self._steps, self._skipped = state["open"]
        self._before = state.get("seconds", 0.0)  # earlier versions kept none

    @property
    def mean_loss(self) -> float:
        """Mean loss of the steps so far in the open epoch; NaN if there are none."""
        return self._total / self._steps if self._steps else math.nan

    @property
    def seconds(self) -> float:
        """Seconds of all finished epochs, with their validation, in all parts of the run."""
        return sum(float(epoch.get("seconds", 0.0)) for epoch in self.epochs)

    @property
    def _seconds(self) -> float:
        """Seconds of the open epoch, without time lost to an interruption."""
        return self._before + time.monotonic() - self._since

    def _start_clock(self, _: SupervisedTrainer) -> None:
        self._since = time.monotonic()

    def _add(self, engine: SupervisedTrainer) -> None:
        if getattr(engine.state, "is_skipped", False):
            self._skipped += 1
            return
        self._total += float(mean_over_processes(engine.state.output["loss"].detach()))
        self._steps += 1

    def _close(self, engine: SupervisedTrainer) -> None:
        state = self.validator.state
        metrics = state.metrics if state.epoch == engine.state.epoch else {}
        record = {
            "epoch": engine.state.epoch,
            "steps": engine.state.iteration,
            "loss": _finite(self.mean_loss),
            "skipped": self._skipped,
            "seconds": round(self._seconds, 3),
            "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "metrics": {
                name: _finite(float(value))
                for name, value in sorted(metrics.items())
                if isinstance(value, int | float | Tensor)
            },
        }
        self.epochs.append(record)
        self._total, self._steps, self._skipped = 0.0, 0, 0
        self._before, self._since = 0.0, time.monotonic()
        if self.path is not None and is_first():
            with atomic_file(self.path) as file:
                file.write(json.dumps(self.epochs, indent=1).encode())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
