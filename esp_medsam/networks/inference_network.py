"""A network as it is run: each modality rewritten for inference when it is first used."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from esp_medsam.networks.esp_medsam import Encoded, ESPMedSAM, Prediction
from esp_medsam.networks.fusion import fuse


class InferenceNetwork(nn.Module):
    """A network for inference, with the outputs of the one it is made from, to rounding.

    Batches of several modalities run through that one, and what is rewritten is no part of the
    state: it is made anew after the network was moved.

    Args:
        network: The network, of a kind that :mod:`~esp_medsam.networks.fusion` rewrites; its
            weights must not change any more.
        run_by: Returns what computes a rewritten network, with the same ``encode`` and ``decode``;
            None leaves it to PyTorch.
    """

    def __init__(
        self, network: ESPMedSAM, run_by: Callable[[ESPMedSAM], Any] | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.run_by = run_by
        self.rewritten: dict[str, Any] = {}
        self.eval()

    @property
    def modalities(self) -> dict[str, int]:
        """Index of each modality."""
        return self.network.modalities

    @property
    def targets(self) -> dict[str, list[str]]:
        """Target names of each modality."""
        return self.network.targets

    def runtime_of(self, modality: str) -> str:
        """Return what computes a modality, such as ``eager 2.14.1``, with its version."""
        default = f"eager {torch.__version__}"
        told: str = getattr(self.rewritten.get(modality), "runtime", default)
        return told

    def encode(self, image: Tensor, modality: Tensor | None) -> Encoded:
        """Encode images; see :meth:`ESPMedSAM.encode`."""
        single = self._single(modality)
        if single is None or (modality is not None and len(modality) != len(image)):
            return self.network.encode(image, modality)
        encoded: Encoded = single.encode(image, None)
        return encoded

    def decode(
        self,
        encoded: Encoded,
        modality: Tensor | None,
        targets: list[int] | None,
        patch_prompt: Tensor | None,
    ) -> Prediction:
        """Decode targets; see :meth:`ESPMedSAM.decode`."""
        single = self._single(modality)
        if single is None:
            return self.network.decode(encoded, modality, targets, patch_prompt)
        prediction: Prediction = single.decode(encoded, None, targets, patch_prompt)
        return prediction

    def forward(self, image: Tensor, modality: Tensor | None = None) -> Tensor:
        """Return the mask logits of all targets; see :meth:`ESPMedSAM.forward`."""
        logits: Tensor = self.network(image, modality)
        return logits

    def _apply(self, *given: Any, **named: Any) -> "InferenceNetwork":
        """Apply a function to all tensors, as when the network moves to a device."""
        self.rewritten.clear()
        super()._apply(*given, **named)  # type: ignore[no-untyped-call]  # torch states no types
        return self

    def _single(self, modality: Tensor | None) -> Any | None:
        """Return what computes the one modality of a batch, or None; others are refused there."""
        names = [self.network.default_modality]
        if modality is not None:
            if modality.ndim != 1 or modality.is_floating_point():
                return None
            held = {index: name for name, index in self.network.modalities.items()}
            names = [held.get(index, "") for index in set(modality.tolist())]
        if len(names) != 1 or names[0] not in self.network.modalities:
            return None
        (name,) = names
        if name not in self.rewritten:
            single = fuse(self.network, name)
            self.rewritten[name] = single if self.run_by is None else self.run_by(single)
        return self.rewritten[name]
