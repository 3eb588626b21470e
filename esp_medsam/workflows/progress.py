"""Report training progress in one line."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from ignite.engine import Events
from monai.engines import SupervisedTrainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from esp_medsam.workflows.broken_off import when_broken_off
from esp_medsam.workflows.distributed import is_first
from esp_medsam.workflows.history import History
from esp_medsam.workflows.set_scores import PREFIX


logger = logging.getLogger(__name__)


class TellProgress:
    """Display of a trainer's progress, its loss, and the validation result of each modality.

    Args:
        history: Record of the epochs and of the loss of the open one.
        console: Console for the progress line; None is standard error, if it is a terminal.
    """

    def __init__(self, history: History, *, console: Console | None = None) -> None:
        self.history = history
        self.console = Console(stderr=True) if console is None else console
        self.line: Progress | None = None
        self._began = (0.0, 0)

    def attach(self, engine: SupervisedTrainer) -> None:
        """Register on the trainer, after its history."""
        if is_first():
            engine.add_event_handler(Events.STARTED, self._begin)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._move)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._tell)
            engine.add_event_handler(Events.COMPLETED, self._end)
            when_broken_off(engine, self._end)

    def _begin(self, engine: SupervisedTrainer) -> None:
        state = engine.state
        self._began = (time.monotonic(), state.iteration)
        if not self.console.is_terminal:
            return
        self.line = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[told]}"),
            console=self.console,
            transient=True,
        )
        total = state.max_epochs * state.epoch_length
        self.line.add_task("Training", total=total, completed=state.iteration, told="")
        self.line.start()

    def _move(self, engine: SupervisedTrainer) -> None:
        if self.line is not None:
            scores = self.history.epochs[-1]["metrics"] if self.history.epochs else {}
            self.line.update(
                self.line.task_ids[0],
                completed=engine.state.iteration,
                description=f"Epoch {engine.state.epoch} of {engine.state.max_epochs}",
                told=", ".join([f"loss {self.history.mean_loss:.3f}", *_scores(scores)]),
            )

    def _tell(self, engine: SupervisedTrainer) -> None:
        state, epoch = engine.state, self.history.epochs[-1]
        began, first = self._began
        left = state.max_epochs * state.epoch_length - state.iteration
        seconds = (time.monotonic() - began) / max(1, state.iteration - first) * left
        loss = "none" if epoch["loss"] is None else f"{epoch['loss']:.3f}"
        told = [
            f"loss {loss}",
            *_scores(epoch["metrics"]),
            f"learning rate {epoch['learning_rate']:.2g}",
            *([f"{epoch['skipped']} steps skipped"] if epoch["skipped"] else []),
            *([f"{_duration(seconds)} left"] if left else []),
        ]
        logger.info("Epoch %d of %d: %s.", state.epoch, state.max_epochs, ", ".join(told))

    def _end(self, *_: Any) -> None:
        if self.line is not None:
            self.line.stop()


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    """Return the Dice of each modality as text."""
    named = {k.removeprefix(PREFIX): v for k, v in metrics.items() if k.startswith(PREFIX)}
    told = [f"{name} {value:.3f}" for name, value in named.items() if value is not None]
    return [f"Dice {', '.join(told)}"] if told else []


def _duration(seconds: float) -> str:
    """Return a remaining time in everyday words."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{round(seconds)} s"
