from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from esp_medsam.networks import ESPMedSAM, build_product, build_released
from esp_medsam.networks.self_check import differences, self_check


TARGETS = {"xray": ["lungs"], "ct": ["liver", "kidney"]}


@pytest.fixture(scope="module")
def network() -> ESPMedSAM:
    """A network whose every layer counts: what is zero at first is noise."""
    torch.manual_seed(0)
    made = build_product({"xray": 1, "ct": 6}, TARGETS, "ct", expert_ratio=0.1)
    for parameter in made.parameters():
        if not parameter.detach().any():
            torch.nn.init.normal_(parameter, std=0.1)
    return made.float().eval().requires_grad_(False)


class Shortened(TorchFunctionMode):
    """Round what convolutions and matrices multiply, as TF32 does, to 10 bits."""

    NAMES = frozenset({"linear", "conv2d", "conv_transpose2d", "matmul", "bmm"})

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") in self.NAMES:
            args = tuple(self._rounded(value) for value in args)
        return function(*args, **(kwargs or {}))

    @staticmethod
    def _rounded(value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        bits = value.contiguous().view(torch.int32)
        return ((bits + 0x1000) & ~0x1FFF).view(torch.float32).view(value.shape)


class TestSelfCheck:
    def test_has_numbers_of_every_target(self, network: ESPMedSAM) -> None:
        found = self_check(network)

        assert {modality: list(rows) for modality, rows in found.items()} == TARGETS
        assert all(len(row) == 5 for rows in found.values() for row in rows.values())

    def test_holds_whatever_the_numbers_of_threads(self, network: ESPMedSAM) -> None:
        expected, before = self_check(network), torch.get_num_threads()
        try:
            torch.set_num_threads(before + 1)
            assert differences(self_check(network), expected) == []
        finally:
            torch.set_num_threads(before)

    def test_holds_in_double_precision(self, network: ESPMedSAM) -> None:
        """No number hangs on the order in which others were added."""
        precise = copy.deepcopy(network).double()

        assert differences(self_check(precise), self_check(network)) == []

    def test_holds_under_tf32(self, network: ESPMedSAM) -> None:
        expected = self_check(network)

        with Shortened():
            assert differences(self_check(network), expected) == []

    def test_does_not_hold_under_bfloat16(self, network: ESPMedSAM) -> None:
        expected = self_check(network)

        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert differences(self_check(network), expected)

    def test_does_not_depend_on_what_other_modalities_there_are(self, network: ESPMedSAM) -> None:
        alone = build_product({"ct": 6}, {"ct": TARGETS["ct"]}, "ct", expert_ratio=0.1)
        held = alone.state_dict()
        alone.load_state_dict({k: v for k, v in network.state_dict().items() if k in held})
        expected = {"ct": self_check(network)["ct"]}

        assert differences(self_check(alone.eval()), expected) == []

    @pytest.mark.parametrize("precision", ["highest", "high", "medium"])
    def test_leaves_how_precise_torch_is(self, network: ESPMedSAM, precision: str) -> None:
        torch.set_float32_matmul_precision(precision)
        convolutions = torch.backends.cudnn.conv.fp32_precision
        try:
            self_check(network)
            assert torch.get_float32_matmul_precision() == precision
            assert torch.backends.cudnn.conv.fp32_precision == convolutions
        finally:
            torch.set_float32_matmul_precision("highest")

    def test_is_there_for_the_released_network_too(self) -> None:
        assert list(self_check(build_released("fundus").eval())) == ["fundus"]

    @pytest.mark.gpu
    def test_holds_on_a_gpu(self, network: ESPMedSAM) -> None:
        expected = self_check(network)

        assert differences(self_check(copy.deepcopy(network).cuda()), expected) == []


class TestDifferences:
    def test_name_what_is_missing_on_either_side(self) -> None:
        found, expected = {"ct": {"liver": [1.0]}}, {"ct": {"kidney": [1.0]}, "mri": {"a": [1.0]}}

        assert differences(found, expected) == ["ct.liver", "ct.kidney", "mri.a"]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.003])
    def test_are_found_in_numbers_that_are_none_or_off(self, value: float) -> None:
        assert differences({"ct": {"a": [1.0, value]}}, {"ct": {"a": [1.0, 1.0]}}) == ["ct.a"]

    def test_are_not_found_in_what_rounding_does(self) -> None:
        assert differences({"ct": {"a": [10.01]}}, {"ct": {"a": [10.0]}}) == []
        assert differences({"ct": {"a": [1.0]}}, {"ct": {"a": [1.0, 1.0]}}) == ["ct.a"]
