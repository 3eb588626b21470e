"""Exponential moving average of the weights, used for validation and shipping."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class AveragedWeights:
    """Exponential moving average of a network's weights, used for validation and shipping.

    Batch-norm statistics are copied from the trained network: averages lag behind the weights.

    Args:
        network: The network in training.
        decay: Share of the average that each step keeps.
    """

    def __init__(self, network: nn.Module, *, decay: float = 0.995) -> None:
        self.source = network
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch's
        self.model = AveragedModel(network, multi_avg_fn=average, use_buffers=False)

    @property
    def network(self) -> nn.Module:
        """The averaged network."""
        averaged: nn.Module = self.model.module
        return averaged

    def update(self) -> None:
        """Update the average with the trained network's current weights."""
        self.model.update_parameters(self.source)
