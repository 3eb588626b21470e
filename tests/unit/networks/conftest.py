"""Networks of two modalities, their weights moved off the special values they start from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from esp_medsam.networks import ESPMedSAM, build_product


MODALITIES = {"ct": 6, "fundus": 3}
TARGETS = {"ct": ["liver", "kidney"], "fundus": ["vessels"]}


def make_network(build: Callable[..., ESPMedSAM] = build_product, **choices: Any) -> ESPMedSAM:
    """Build a network in evaluation mode. No bias, scale or running mean keeps 0 or 1."""
    arguments = {"modalities": MODALITIES, "targets": TARGETS, "default_modality": "ct"} | choices
    torch.manual_seed(1)
    network = build(**arguments).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.02 * torch.randn_like(buffer))
    return network


@pytest.fixture(scope="session", name="make_network")
def make_network_fixture() -> Callable[..., ESPMedSAM]:
    return make_network


@pytest.fixture(scope="session")
def shared_network() -> ESPMedSAM:
    """One network for tests that only read it; what they change they must change back."""
    return make_network()


@pytest.fixture
def network() -> ESPMedSAM:
    """A network of the test's own."""
    return make_network()


@pytest.fixture
def image() -> torch.Tensor:
    """Two images, wider than high."""
    return torch.randn(2, 3, 64, 96)
