"""How two encodings of a picture agree."""

from __future__ import annotations

import pytest
import torch

from esp_medsam.networks import build_product
from esp_medsam.networks.fusion import fuse
from esp_medsam.runtimes.agreement import agreement, phantom


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return fuse(build_product({"ct": 0}, {"ct": ["liver", "kidney"]}).eval(), "ct")


def test_an_encoding_agrees_with_itself(network) -> None:
    encoded = network.encode(phantom(64, 96), None)

    found = agreement(network, encoded, encoded)

    assert found.difference == 0
    assert found.dice == 1
    assert found.voxels > 0


def test_a_difference_is_relative_to_the_largest_logit(network) -> None:
    encoded = network.encode(phantom(64, 64), None)
    other = encoded._replace(full_res=encoded.full_res * 1.01)

    found = agreement(network, encoded, other)

    assert 1e-4 < found.difference < 0.02


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_not_finite_never_agrees(network, wrong: float) -> None:
    encoded = network.encode(phantom(64, 64), None)
    other = encoded._replace(full_res=encoded.full_res * wrong)

    assert agreement(network, encoded, other).difference == float("inf")


def test_masks_of_another_picture_have_another_dice(network) -> None:
    encoded = network.encode(phantom(64, 64), None)
    other = network.encode(-phantom(64, 64), None)

    assert agreement(network, encoded, other).dice < 0.99


def test_a_phantom_is_the_same_each_time_and_looks_like_an_image() -> None:
    found = phantom(96, 128)

    assert found.shape == (1, 3, 96, 128)
    assert torch.equal(found, phantom(96, 128))
    assert 0.2 < float(found.std()) < 2
