"""A network as it is run: each modality rewritten for inference when it is first used."""

from torch import Tensor, nn

from esp_medsam.networks.esp_medsam import Encoded, ESPMedSAM, Prediction
from esp_medsam.networks.fusion import fuse


class InferenceNetwork(nn.Module):
    """A network for inference, with the outputs of the one it is made from, to rounding.

    Batches of several modalities run through that one.

    Args:
        network: The network, of a kind that :mod:`~esp_medsam.networks.fusion` rewrites; it must
            not change any more.
    """

    def __init__(self, network: ESPMedSAM) -> None:
        super().__init__()
        self.network = network
        self.single = nn.ModuleDict()
        self.names = {index: name for name, index in network.modalities.items()}
        self.eval()

    @property
    def modalities(self) -> dict[str, int]:
        """Index of each modality."""
        return self.network.modalities

    @property
    def targets(self) -> dict[str, list[str]]:
        """Target names of each modality."""
        return self.network.targets

    def encode(self, image: Tensor, modality: Tensor | None) -> Encoded:
        """Encode images; see :meth:`ESPMedSAM.encode`."""
        network, modality = self._for(modality)
        return network.encode(image, modality)

    def decode(
        self,
        encoded: Encoded,
        modality: Tensor | None,
        targets: list[int] | None,
        patch_prompt: Tensor | None,
    ) -> Prediction:
        """Decode targets; see :meth:`ESPMedSAM.decode`."""
        network, modality = self._for(modality)
        return network.decode(encoded, modality, targets, patch_prompt)

    def forward(self, image: Tensor, modality: Tensor | None = None) -> Tensor:
        """Return the mask logits of all targets; see :meth:`ESPMedSAM.forward`."""
        logits: Tensor = self.network(image, modality)
        return logits

    def _for(self, modality: Tensor | None) -> tuple[ESPMedSAM, Tensor | None]:
        """Return the network for the images of a batch, and what it takes as their modality."""
        indices = set() if modality is None else set(modality.tolist())
        if len(indices) > 1 or not indices <= self.names.keys():
            return self.network, modality  # which refuses an index that it does not have
        name = self.names[indices.pop()] if indices else self.network.default_modality
        if name not in self.single:
            self.single[name] = fuse(self.network, name)
        single = self.single[name]
        assert isinstance(single, ESPMedSAM), "the dictionary holds these"
        return single, None
