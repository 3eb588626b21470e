"""The running average of a network's weights, which is validated and shipped."""

from __future__ import annotations

from ignite.engine import Engine, Events
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from esp_medsam.networks import ESPMedSAM


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
