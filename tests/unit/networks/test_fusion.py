"""A network that was rewritten for inference has the outputs of the original."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from esp_medsam.networks import ESPMedSAM, build_paper, build_product
from esp_medsam.networks.builders import build_released_design
from esp_medsam.networks.fusion import fuse
from esp_medsam.networks.inference_network import InferenceNetwork


MakeNetwork = Callable[..., ESPMedSAM]

CT, FUNDUS = torch.tensor([6, 6]), torch.tensor([3, 3])

DESIGNS: list[tuple[Callable[..., ESPMedSAM], dict[str, Any]]] = [
    (build_product, {}),
    (build_product, {"presence": True, "prompt": "soft", "adapted": {"ct": ["liver"]}}),
    (build_product, {"image_encoder": "tic"}),
    (build_paper, {}),
    (build_released_design, {}),
]


@torch.no_grad()
def outputs_of(
    network: ESPMedSAM | InferenceNetwork, image: Tensor, modality: Tensor | None, *given: Any
) -> list[Tensor]:
    encoded = network.encode(image, modality)
    prediction = network.decode(encoded, modality, *(given or (None, None)))
    return [*prediction, encoded.full_res, *encoded.pyramid]


def assert_alike(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("size", [(64, 96), (45, 70), (224, 224)])
@pytest.mark.parametrize(("build", "choices"), DESIGNS)
def test_outputs_stay_the_same_to_rounding(
    make_network: MakeNetwork,
    build: Callable[..., ESPMedSAM],
    choices: dict[str, Any],
    size: tuple[int, int],
) -> None:
    network, image = make_network(build, **choices), torch.randn(2, 3, *size)

    for name, modality in (("ct", CT), ("fundus", FUNDUS)):
        expected = outputs_of(network, image, modality)
        assert_alike(outputs_of(fuse(network, name), image, None), expected)
        assert_alike(outputs_of(fuse(network, name), image, modality), expected)


def test_chosen_targets_and_given_prompts_are_decoded(
    shared_network: ESPMedSAM, image: Tensor
) -> None:
    prompt = torch.randint(0, 2, (2, 1, 2, 3)).float()
    prompt[0, 0, 0] = torch.nan

    expected = outputs_of(shared_network, image, CT, [1], prompt)
    assert_alike(outputs_of(fuse(shared_network, "ct"), image, None, [1], prompt), expected)


def test_the_original_does_not_change(network: ESPMedSAM, image: Tensor) -> None:
    before = outputs_of(network, image, CT)
    names = [name for name, _ in network.named_modules()]
    single = fuse(network, "fundus")

    assert [name for name, _ in network.named_modules()] == names
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in single.parameters())
    assert not any(module.training for module in single.modules())
    for one, other in zip(outputs_of(network, image, CT), before, strict=True):
        assert torch.equal(one, other)
    assert network.modalities == {"ct": 6, "fundus": 3}


def test_another_modality_changes_no_bit(make_network: MakeNetwork, image: Tensor) -> None:
    network = make_network()
    alone = make_network(modalities={"ct": 6})
    alone.load_state_dict(network.state_dict(), strict=False)

    found = outputs_of(fuse(network, "ct"), image, None)
    for one, other in zip(found, outputs_of(fuse(alone, "ct"), image, None), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("wrong", ["training", "modality", "encoder"])
def test_what_cannot_be_rewritten_is_refused(network: ESPMedSAM, wrong: str) -> None:
    if wrong == "training":
        network.train()
    if wrong == "encoder":
        network.image_encoder = torch.nn.Identity()

    with pytest.raises(ValueError, match="network must be in evaluation mode"):
        fuse(network, "mri" if wrong == "modality" else "ct")


class NoFloat64(TorchFunctionMode):
    """A device without float64, such as MPS: only what was brought to the CPU can become it."""

    def __init__(self) -> None:
        super().__init__()
        self.on_cpu: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.double:
            assert any(args[0] is one for one in self.on_cpu), "it is on the device"
        found = func(*args, **(kwargs or {}))
        if func is Tensor.cpu:
            found = found.clone()
            self.on_cpu.append(found)
        return found


def test_float64_is_used_on_the_cpu_alone(shared_network: ESPMedSAM) -> None:
    with NoFloat64() as device:
        fuse(shared_network, "ct")

    assert device.on_cpu


class TestInferenceNetwork:
    @pytest.mark.parametrize("modality", [None, CT, FUNDUS, torch.tensor([6, 3])])
    def test_has_the_outputs_of_the_network(
        self, shared_network: ESPMedSAM, image: Tensor, modality: Tensor | None
    ) -> None:
        found = outputs_of(InferenceNetwork(shared_network), image, modality)

        assert_alike(found, outputs_of(shared_network, image, modality))

    def test_rewrites_a_modality_once_until_it_is_moved(
        self, network: ESPMedSAM, make_network: MakeNetwork, image: Tensor
    ) -> None:
        other = InferenceNetwork(network)
        for _ in range(2):
            outputs_of(other, image, CT)
            assert list(other.rewritten) == ["ct"]
        first = other.rewritten["ct"]
        outputs_of(other, image, CT)
        assert other.rewritten["ct"] is first

        other.double()
        assert_alike(
            [one.float() for one in outputs_of(other, image.double(), CT)],
            outputs_of(make_network(), image, CT),
        )
        assert other.rewritten["ct"] is not first

    def test_has_no_other_state_than_the_network(
        self, shared_network: ESPMedSAM, image: Tensor
    ) -> None:
        other = InferenceNetwork(shared_network)
        outputs_of(other, image, CT)

        assert set(other.state_dict()) == {f"network.{key}" for key in shared_network.state_dict()}

    @pytest.mark.parametrize(
        ("modality", "error"),
        [([7, 7], IndexError), ([6], ValueError), ([6.0, 6.0], IndexError), (6, IndexError)],
    )
    def test_refuses_what_the_network_refuses(
        self, shared_network: ESPMedSAM, image: Tensor, modality: object, error: type[Exception]
    ) -> None:
        for network in (shared_network, InferenceNetwork(shared_network)):
            with pytest.raises(error):
                outputs_of(network, image, torch.tensor(modality))
