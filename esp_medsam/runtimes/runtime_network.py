"""A network of one modality whose encoder a runtime computes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

import esp_medsam.networks
from esp_medsam.errors import one_line, says_out_of_memory
from esp_medsam.networks.esp_medsam import Encoded, ESPMedSAM, Prediction
from esp_medsam.runtimes.agreement import Agreement, agreement, phantom
from esp_medsam.runtimes.encoder_graph import EncoderGraph, Engine
from esp_medsam.runtimes.kinds import EAGER, RUNTIMES, Runtime
from esp_medsam.runtimes.store import NoStore, Store
from esp_medsam.version import __version__


logger = logging.getLogger(__name__)

MOST_DIFFERENCE = 1e-4
"""Largest difference of a logit, relative to the largest one, that counts as rounding; 1e-6 was
measured."""

LEAST_DICE = 0.999
"""Least Dice of a mask: a single pixel within rounding of the threshold may change sides."""


class RuntimeNetwork:
    """A rewritten network of one modality, encoded by a runtime and decoded by PyTorch.

    An engine is made for each shape of the input when it is first seen, and checked against the
    network. Where that fails, PyTorch takes its place, and a warning says so once.

    Args:
        network: The network, as :func:`~esp_medsam.networks.fusion.fuse` returns it.
        runtime: The runtime.
        store: Returns what keeps the engines, by a text that identifies the graph; None keeps none.

    Attributes:
        failure: Why PyTorch took the runtime's place; empty if it did not.
        agreement: How the latest engine agreed with the network.
    """

    def __init__(
        self,
        network: ESPMedSAM,
        runtime: Runtime,
        store: Callable[[str], Store] | None = None,
    ) -> None:
        self.network = network
        self._runtime = runtime
        self._store = store
        self._graph = EncoderGraph(network)
        self._engines: dict[tuple[object, ...], Engine | None] = {}
        self.failure = ""
        self.agreement: Agreement | None = None

    @property
    def runtime(self) -> str:
        """Name and version of what computes the encoder."""
        used = RUNTIMES[EAGER] if self.failure else self._runtime
        return f"{used.name} {used.version}"

    def encode(self, image: Tensor, modality: Tensor | None) -> Encoded:
        """Encode images; see :meth:`ESPMedSAM.encode`."""
        engine = self._engine(image)
        if engine is None:
            return self.network.encode(image, modality)
        return self._graph.encoded(image, engine(image))

    def decode(
        self,
        encoded: Encoded,
        modality: Tensor | None,
        targets: list[int] | None,
        patch_prompt: Tensor | None,
    ) -> Prediction:
        """Decode targets; see :meth:`ESPMedSAM.decode`."""
        return self.network.decode(encoded, modality, targets, patch_prompt)

    def _engine(self, image: Tensor) -> Engine | None:
        """Return the engine for images of a shape; None where PyTorch takes its place.

        After one failure it does so for all shapes, as the record says.
        """
        if self.failure:
            return None
        shape = tuple(image.shape) if image.device.type != "cpu" else tuple(image.shape[1:])
        key = (*shape, image.device)
        if key not in self._engines:
            self._engines[key] = self._built(image)
        return self._engines[key]

    def _built(self, image: Tensor) -> Engine | None:
        count, _, height, width = image.shape
        example = phantom(height, width).to(image)
        if image.device.type != "cpu":
            example = example.expand(count, -1, -1, -1).contiguous()
        if image.device.type not in self._runtime.devices:
            self._do_without(f"it does not run on {image.device.type}")
            return None
        try:
            engine = self._runtime.build(self._graph, example, self._store_of(example))
            why = self._difference(engine, example)
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError) or says_out_of_memory(error):
                raise  # which is answered with fewer slices, or another device
            why = f"{type(error).__name__}: {error}"
        if why:
            self._do_without(why)
            return None
        return engine

    def _difference(self, engine: Engine, example: Tensor) -> str:
        """Return how what an engine computes differs from what the network does, if at all.

        Another picture is compared than the engine was made with, which it might only repeat.
        """
        example = example.flip(-1)
        found = self._graph.encoded(example, engine(example))
        expected = self.network.encode(example, None)
        self.agreement = told = agreement(self.network, expected, found)
        if told.difference <= MOST_DIFFERENCE and told.dice >= LEAST_DICE:
            return ""
        return (
            f"it differs from PyTorch: logits by {told.difference:.1g} of the largest, Dice of "
            f"masks {told.dice:.4f}"
        )

    def _do_without(self, why: str) -> None:
        """Say once why PyTorch takes the runtime's place."""
        if not self.failure:
            self.failure = one_line(why).rstrip(".")
            told = "PyTorch computes instead of runtime %s: %s."
            logger.warning(told, self._runtime.name, self.failure)

    def _store_of(self, example: Tensor) -> Store:
        if self._store is None:
            return NoStore()
        return self._store(f"{identity_of(self.network)} {tuple(example.shape)}")


def identity_of(network: ESPMedSAM) -> str:
    """Return text that identifies what a rewritten network computes, and with which versions."""
    digest = hashlib.sha256(_sources().encode())
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    (modality,) = network.modalities
    return f"{modality} {digest.hexdigest()} torch {torch.__version__}"


@cache
def _sources() -> str:
    """Return a digest of the code that computes: a graph that older code made is not used."""
    folders = (Path(esp_medsam.networks.__path__[0]), Path(__file__).parent)
    files = sorted(path for folder in folders for path in folder.glob("*.py"))
    content = hashlib.sha256(__version__.encode())
    for path in files:
        content.update(path.read_bytes())
    return content.hexdigest()
