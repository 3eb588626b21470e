"""Training steps, each with its own seed; non-finite steps are skipped."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import EventEnum, Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from esp_medsam.errors import DivergedError, listed


logger = logging.getLogger(__name__)


class StepEvents(EventEnum):
    """Trainer events in addition to ignite's."""

    STEPPED = "stepped"
    """The optimizer took a step; not fired while gradients accumulate or for a skipped step."""


class SeedSteps:
    """Handler that makes random draws, such as dropout, depend only on seed and step."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: SupervisedTrainer) -> None:
        """Register on the trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: SupervisedTrainer) -> None:
        """Seed the generator from the trainer's step."""
        sequence = np.random.SeedSequence([self.seed, engine.state.iteration])
        torch.manual_seed(int(sequence.generate_state(1)[0]))


class AfterStep:
    """Handler that calls functions after each step that the optimizer takes.

    Args:
        calls: The functions, such as those of the weight average and the schedule.
    """

    def __init__(self, calls: Sequence[Callable[[], object]]) -> None:
        self.calls = calls

    def attach(self, engine: SupervisedTrainer) -> None:
        """Register on the trainer, which needs the event: attach FiniteSteps first."""
        engine.add_event_handler(StepEvents.STEPPED, self)

    def __call__(self, engine: SupervisedTrainer) -> None:
        """Call all functions."""
        del engine
        for call in self.calls:
            call()


class _Found(NamedTuple):
    """Description of a non-finite step."""

    step: int
    epoch: int
    loss: float
    terms: Mapping[str, float]
    gradient_norm: float
    learning_rate: float
    sets: Sequence[str]


class FiniteSteps:
    """Handler that skips steps whose loss, gradients or batch norm statistics are not finite.

    A skipped step changes no weights, averages, optimizer state or statistics. If gradients of
    several batches accumulate, all of these batches are skipped. Too many skipped steps in a row
    end the training.

    Args:
        network: Network being trained.
        optimizer: Its optimizer.
        max_bad_steps: Number of skipped steps in a row that ends the training.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, *, max_bad_steps: int) -> None:
        self.network = network
        self.optimizer = optimizer
        self.max_bad_steps = max_bad_steps
        self.skipped = 0
        self.in_a_row = 0
        self._found: _Found | None = None
        self._statistics: list[tuple[Tensor, Tensor]] = []

    def attach(self, engine: SupervisedTrainer) -> None:
        """Register on the trainer."""
        engine.register_events(*StepEvents)
        engine.add_event_handler(Events.ITERATION_STARTED, self._begin)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._check)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def state_dict(self) -> dict[str, int]:
        """Return the counts."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restore the counts."""
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]

    def _begin(self, engine: SupervisedTrainer) -> None:
        if (_place_of(engine) - 1) % engine.accumulation_steps == 0:
            self._found = None
            self._statistics = [
                (buffer, buffer.clone())
                for module in self.network.modules()
                if isinstance(module, _BatchNorm)
                for buffer in module.buffers()
            ]

    def _check(self, engine: SupervisedTrainer) -> None:
        loss = engine.state.output["loss"].detach()
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        # Statistics can overflow when loss and gradients do not: batch norm divides by them.
        statistics = [torch.isfinite(buffer).all() for buffer, _ in self._statistics]
        fine = torch.stack([torch.isfinite(loss), torch.isfinite(norm), *statistics]).all()
        bad = (~fine).float()
        if dist.is_initialized():
            dist.all_reduce(bad)
        if bad and self._found is None:
            self._found = self._describe(engine, float(loss), float(norm))
        if self._found is not None:  # without gradients the optimizer changes nothing
            self.optimizer.zero_grad(set_to_none=True)
            for buffer, before in self._statistics:
                buffer.copy_(before)

    def _end(self, engine: SupervisedTrainer) -> None:
        place = _place_of(engine)
        engine.state.is_skipped = self._found is not None
        if place % engine.accumulation_steps and place != engine.state.epoch_length:
            return
        if self._found is None:
            self.in_a_row = 0
            engine.fire_event(StepEvents.STEPPED)
            return
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= self.max_bad_steps:
            msg = (
                f"Training must stay finite; {self.in_a_row} steps in a row (max_bad_steps) "
                f"did not. {_step_text(self._found)}. Start over (resume false) with a lower "
                "learning_rate or max_norm, or with amp false, or check the images of these "
                "datasets."
            )
            raise DivergedError(msg)
        logger.warning("A step was skipped, because it is not finite. %s.", _step_text(self._found))

    def _describe(self, engine: SupervisedTrainer, loss: float, norm: float) -> _Found:
        output, batch = engine.state.output, engine.state.batch
        terms = getattr(engine.loss_function, "terms", None)
        with torch.no_grad():
            told = {} if terms is None else terms(output["pred"], output["label"])
        each = output["pred"].low_res_logits.detach().flatten(1).isfinite().all(1).tolist()
        names = batch.get("dataset", ["unknown"] * len(each))
        wrong = [name for name, is_fine in zip(names, each, strict=True) if not is_fine]
        return _Found(
            step=engine.state.iteration,
            epoch=engine.state.epoch,
            loss=loss,
            terms={name: float(value) for name, value in told.items()},
            gradient_norm=norm,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            sets=sorted(set(wrong or names)),
        )


def _place_of(engine: SupervisedTrainer) -> int:
    """Return the trainer's step within its epoch, counted from 1."""
    return int((engine.state.iteration - 1) % engine.state.epoch_length) + 1


def _step_text(found: _Found) -> str:
    terms = ", ".join(f"{name} {value:.3g}" for name, value in found.terms.items())
    norm = "not finite" if not math.isfinite(found.gradient_norm) else f"{found.gradient_norm:.3g}"
    return (
        f"Step {found.step} of epoch {found.epoch}: loss {found.loss:.3g}"
        f"{f' ({terms})' if terms else ''}, gradient norm {norm}, learning rate "
        f"{found.learning_rate:.3g}, sets {listed(found.sets)}"
    )
