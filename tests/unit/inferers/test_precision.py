from __future__ import annotations

import logging

import pytest
import torch

from esp_medsam.inferers import precision
from esp_medsam.inferers.precision import amp_of, has_bfloat16_units


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A processor whose units the test says."""
    units: dict[str, bool] = {"avx2": True}
    monkeypatch.setattr(precision, "_processor", lambda: units)
    return units


class TestHasBfloat16Units:
    @pytest.mark.parametrize("unit", ["amx_bf16", "avx512_bf16", "bf16"])
    def test_asks_what_the_processor_can_do(self, processor: dict[str, bool], unit: str) -> None:
        assert not has_bfloat16_units("cpu")

        processor[unit] = True

        assert has_bfloat16_units("cpu")

    def test_counts_a_device_that_does_not_say_as_one_without(self) -> None:
        assert not has_bfloat16_units("mps")

    def test_is_no_of_a_cuda_device_that_is_not_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

        assert not has_bfloat16_units("cuda:0")

    @pytest.mark.parametrize("supported", [True, False])
    def test_asks_older_torch_in_its_own_way(
        self, monkeypatch: pytest.MonkeyPatch, supported: bool
    ) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", None, raising=False)
        for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
            monkeypatch.setattr(torch.cpu, name, lambda: supported, raising=False)
        monkeypatch.setattr(precision, "_processor", precision._processor.__wrapped__)

        assert has_bfloat16_units("cpu") is supported


class TestAmpOf:
    @pytest.mark.parametrize(
        ("asked", "has_units", "used", "said"),
        [
            ("auto", True, True, "Training on cpu in bfloat16, which it has units for."),
            ("auto", False, False, "Training on cpu in float32, because it has no units"),
            (True, True, True, ""),
            (True, False, False, "Training uses float32 although amp is set: on cpu, it has"),
            (False, True, False, ""),
        ],
    )
    def test_decides_by_the_units_and_says_so(
        self,
        processor: dict[str, bool],
        caplog: pytest.LogCaptureFixture,
        asked: bool | str,
        has_units: bool,
        used: bool,
        said: str,
    ) -> None:
        processor["amx_bf16"] = has_units

        with caplog.at_level(logging.INFO):
            assert amp_of(asked, "cpu", what="training") is used

        assert said in caplog.text
        assert bool(said) == bool(caplog.text)
