"""Parameter groups, learning rate schedule, gradient clipping."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def weight_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimizer's groups: matrices and kernels decay, norms and biases do not."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class ClipGradients:
    """Optimizer hook that scales gradients down to a maximum norm before every step.

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


class LeaveUntouched:
    """Optimizer hook that makes a step skip parameters whose gradient is all zero.

    Controllers and queries are stacked before a batch selects its own, so the unselected ones get
    zero gradients instead of none. An optimizer would still decay them, and modalities that a
    datalist lacks would fade.
    """

    def attach(self, optimizer: Optimizer) -> Optimizer:
        """Register on ``optimizer`` and return it."""
        optimizer.register_step_pre_hook(self)
        return optimizer

    def __call__(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Remove all-zero gradients."""
        del args, kwargs
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        touched = [p for p in parameters if p.grad is not None]
        if not touched:
            return
        # A single transfer from the device for all gradients.
        largest = torch.stack([p.grad.abs().amax() for p in touched]).tolist()
        for parameter, value in zip(touched, largest, strict=True):
            if value == 0.0:
                parameter.grad = None


def schedule(
    optimizer: Optimizer, *, decay: Literal["cosine", "exponential"], warmup: int, steps: int
) -> LambdaLR:
    """Return the learning rate schedule: the rate rises from 0, then falls.

    Args:
        optimizer: Optimizer whose learning rate is scheduled.
        decay: ``cosine`` falls to 0, ``exponential`` to a hundredth.
        warmup: Number of steps during which the rate rises.
        steps: Total number of steps.
    """

    def share(step: int) -> float:
        if step < warmup:
            return step / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        if decay == "exponential":
            return float(EXPONENTIAL_END**progress)
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))

    return LambdaLR(optimizer, share)  # a plain function, so checkpoints hold only the step


EXPONENTIAL_END = 0.01
"""Share of the learning rate that an exponential decay leaves at the end."""
