"""Parts of the training workflow that ``train.yaml`` puts together on MONAI's engines."""

from __future__ import annotations

import copy
import logging
import math
import os
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from esp_medsam.io.atomic import atomic_file, clear_temporaries
from esp_medsam.io.weights_record import check_hash, check_sidecar, read_weights_record
from esp_medsam.modality import ModalityTable
from esp_medsam.networks import ESPMedSAM, Prediction
from esp_medsam.networks.checkpoints import (
    held_modalities,
    load_checkpoint,
    load_grown,
    load_shared,
)
from esp_medsam.workflows.weights import check_weights, record_weights, write_state_dict


logger = logging.getLogger(__name__)


class PredictForward(nn.Module):
    """The network's ``predict`` as a module's ``forward``, which is what trainers and DDP wrap.

    Args:
        network: The network.
        amp: Whether to compute in bfloat16 where autocast does; weights stay float32.
    """

    def __init__(self, network: ESPMedSAM, *, amp: bool = False) -> None:
        super().__init__()
        self.network = network
        self.amp = amp

    def forward(self, image: Tensor, modality: Tensor) -> Prediction:
        """Return the prediction for ``image``, ``(B, 3, H, W)``, and indices, ``(B,)``."""
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.amp):
            return self.network.predict(image, modality)


class AveragedWeights:
    """Keep the exponential moving average of a network's weights, the ones to validate and ship.

    Batch-norm statistics are the trained network's own: averaged, they lag behind the weights.

    Args:
        network: The network that is trained.
        decay: Share of the average that one step keeps.
    """

    def __init__(self, network: ESPMedSAM, *, decay: float = 0.995) -> None:
        self.source = network
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch's
        self.model = AveragedModel(network, multi_avg_fn=average, use_buffers=False)

    @property
    def network(self) -> ESPMedSAM:
        """The averaged network."""
        averaged = self.model.module
        assert isinstance(averaged, ESPMedSAM)
        return averaged

    def update(self) -> None:
        """Take the trained network's present weights into the average."""
        self.model.update_parameters(self.source)


class AverageHandler:
    """Update averaged weights after every step of a trainer.

    Args:
        average: The averaged weights.
    """

    def __init__(self, average: AveragedWeights) -> None:
        self.average = average

    def attach(self, engine: Engine) -> None:
        """Register on the trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Update the average."""
        del engine
        self.average.update()


def start_from(network: ESPMedSAM, weights: str | Path | None) -> ESPMedSAM:
    """Return the network with the weights to start from.

    Args:
        network: Freshly initialized.
        weights: A state dict of the same design, of which the network may hold modalities and
            targets more, or fewer; or what ``esp-medsam convert --from mobilesam`` made, which
            holds no controllers. What it does not hold stays fresh, new experts silenced. None or
            empty starts from scratch.

    Raises:
        WeightsNotFoundError: If there is no such file.
        CheckpointError: If the file is not one, does not fit, or is not what its record says.
    """
    if weights:
        check_weights(weights)
        record = read_weights_record(weights)
        if record is not None:
            check_hash(weights, record)
        state_dict, source = load_checkpoint(weights), os.fspath(weights)
        if held_modalities(state_dict):
            fresh, left_out = load_grown(network, state_dict, source=source)
            told = f"fresh: {', '.join(fresh) or 'nothing'}"
            told += f"; left out: {', '.join(left_out)}" if left_out else ""
            logger.info("Training starts from %s; %s.", source, told)
        else:
            load_shared(network, state_dict, silence_experts=True, source=source)
            logger.info("Training starts from %s, which all modalities share.", source)
    return network


AUTO = "auto"

MOST_SAMPLES, SAMPLES_A_SLICE = 4000, 10
"""Slices drawn in an epoch at most, and times that each of a small set is drawn."""

MOST_WARM_UP, WARM_UP = 200, 0.05
"""Steps of warm-up at most, and as a share of all."""


def samples_of(asked: int | str, dataset: Sized) -> int:
    """Return how many slices make an epoch; ``auto`` goes by how many there are."""
    if asked != AUTO:
        return int(asked)
    return min(MOST_SAMPLES, SAMPLES_A_SLICE * len(dataset))


def turns_of(asked: Mapping[str, int] | str, table: ModalityTable) -> dict[str, int]:
    """Return the turns of each modality in a round; ``auto`` goes by how many targets it has.

    Of several targets a slice shows one or two.
    """
    if not isinstance(asked, str):
        return dict(asked)
    return {entry.name: 2 if len(entry.targets) > 1 else 1 for entry in table.modalities}


def warmup_of(asked: int | str, steps: int) -> int:
    """Return how many steps the learning rate rises; ``auto`` goes by how many there are."""
    return int(asked) if asked != AUTO else min(MOST_WARM_UP, round(WARM_UP * steps))


class KeepBest:
    """Write the weights whenever validation was never better, and say at the end which they are.

    Args:
        average: The averaged weights, which are validated.
        path: File to write or replace.
        metric: Metric of the evaluator that says how good they are; higher is better.
    """

    def __init__(
        self, average: AveragedWeights, path: str | Path, *, metric: str = "val_mean_dice"
    ) -> None:
        self.average = average
        self.path = Path(path)
        self.metric = metric
        self.best: float | None = None

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the weights if they are the best so far."""
        value = float(engine.state.metrics.get(self.metric, float("nan")))
        if self.best is None or value > self.best:
            save_weights(self.average.network, self.path)
            self.best = -1.0 if math.isnan(value) else value

    def tell(self) -> None:
        """Log where the best weights are, and how to use them."""
        if self.best is None:
            save_weights(self.average.network, self.path)
        score = "no validation" if self.best is None else f"mean Dice {self.best:.3f}"
        logger.info(
            "Best weights (%s): %s. Segment with: esp-medsam segment IN OUT --ckpt_path %s",
            score,
            self.path,
            self.path,
        )


def weight_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimizer's groups: matrices and kernels decay, norms and biases do not."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class ClipGradients:
    """Scale gradients down to a norm before every step; hook of an optimizer.

    Args:
        max_norm: Largest norm of all gradients together.
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def attach(self, optimizer: Optimizer) -> Optimizer:
        """Register on ``optimizer`` and return it."""
        optimizer.register_step_pre_hook(self)
        return optimizer

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Clip the gradients of the optimizer's parameters."""
        del args, kwargs
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, self.max_norm)


def loss_of(output: Mapping[str, Any]) -> float:
    """Return the loss of a step, for MONAI's handlers."""
    loss: Tensor = output["loss"]
    return float(loss.detach())


def dice_inputs(output: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return masks and truth for MONAI's MeanDice, ``(B, T, H, W)`` each.

    T is that of the annotation, whatever the batch's modalities have: MeanDice puts batches
    together. Rows of which nothing is known are empty in the truth, and it passes over those;
    pixels of which nothing is known are empty in both.
    """
    logits = output["pred"].low_res_logits
    annotation = output["label"]
    masks = torch.zeros_like(annotation.mask, dtype=torch.float32)
    masks[:, : logits.shape[1]] = logits > 0
    truth = annotation.mask * annotation.known[:, :, None, None]
    labeled = 1 if annotation.labeled is None else annotation.labeled
    return masks * labeled, (truth * labeled).float()


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Write a network's state dict in half precision, and its record, whole or not at all.

    What killed runs left half-written beside it is removed.

    Args:
        network: What to write; counters and other integers keep their type.
        path: File to write or replace.

    Raises:
        OutputExistsError: If what lies in the place of the record is none.
        OutputError: If a file cannot be written.
    """
    state = {
        name: value.detach().cpu().half() if value.is_floating_point() else value.detach().cpu()
        for name, value in network.state_dict().items()
    }
    asked = None
    if isinstance(network, ESPMedSAM):  # with the weights that were rounded
        asked = copy.deepcopy(network).cpu().float().eval()
        asked.load_state_dict(state)
    check_sidecar(path)
    clear_temporaries(Path(path).parent)
    with atomic_file(Path(path)) as file:
        write_state_dict(state, file)
    record_weights(path, asked)
