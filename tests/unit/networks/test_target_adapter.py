"""Target adapters: whom they adapt, and that nobody else notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from esp_medsam.networks import ESPMedSAM
from esp_medsam.networks.checkpoints import load_grown
from esp_medsam.networks.target_adapter import TargetAdapters


MakeNetwork = Callable[..., ESPMedSAM]
TARGETS = {"ct": ["liver", "kidney"], "fundus": ["vessels"]}


@pytest.fixture
def adapters() -> TargetAdapters:
    made = TargetAdapters(TARGETS, {"ct": ["kidney"]}, dim=8, width=4)
    torch.nn.init.normal_(made.adapters["ct"]["kidney"].up)
    return made


class TestTargetAdapters:
    def test_other_targets_get_their_embedding_back_to_the_bit(
        self, adapters: TargetAdapters
    ) -> None:
        source = torch.randn(3, 8, 4, 6)

        adapted = adapters(source, torch.tensor([0, 1, 2]))

        assert torch.equal(adapted[[0, 2]], source[[0, 2]])
        assert (adapted[1] - source[1]).abs().min() > 0

    def test_each_cell_is_adapted_by_itself(self, adapters: TargetAdapters) -> None:
        source = torch.randn(1, 8, 4, 6)
        kidney = torch.tensor([1])
        whole = adapters(source, kidney)

        source[..., 0, 0] += 1.0

        changed = (adapters(source, kidney) != whole).any(dim=1)
        assert changed[0, 0, 0]
        assert changed.sum() == 1

    def test_fresh_ones_change_nothing(self) -> None:
        source = torch.randn(1, 8, 4, 6)

        fresh = TargetAdapters(TARGETS, {"ct": ["kidney"]}, dim=8)

        assert torch.equal(fresh(source, torch.tensor([1])), source)

    def test_refuses_what_is_no_target(self) -> None:
        with pytest.raises(ValueError, match=r"adapted must name targets; got ct\.spleen"):
            TargetAdapters(TARGETS, {"ct": ["kidney", "spleen"]})


class TestWithinANetwork:
    def test_old_targets_decode_as_before_and_the_new_one_learns(
        self, make_network: MakeNetwork, image: torch.Tensor
    ) -> None:
        old = make_network(targets={"ct": ["liver"], "fundus": ["vessels"]})
        grown = make_network(adapted={"ct": ["kidney"]})
        load_grown(grown, old.state_dict())
        ct = torch.full((2,), 6)

        logits = grown.predict(image, ct).low_res_logits
        logits[:, 1].sum().backward()

        torch.testing.assert_close(
            logits[:, :1].detach(), old.predict(image, ct).low_res_logits, rtol=0, atol=1e-5
        )
        kidney = grown.target_adapters.adapters["ct"]["kidney"]
        assert kidney.up.grad is not None
        assert kidney.up.grad.any()

    def test_is_its_targets_own_when_weights_are_loaded(self, make_network: MakeNetwork) -> None:
        with_adapter = make_network(adapted={"ct": ["kidney"]})
        fewer = make_network(targets={"ct": ["liver"], "fundus": ["vessels"]})

        fresh, left_out = load_grown(fewer, with_adapter.state_dict())

        assert (fresh, left_out) == ([], ["ct.kidney"])

    def test_scripts_to_the_same(self, make_network: MakeNetwork, image: torch.Tensor) -> None:
        network = make_network(adapted={"ct": ["kidney"]})

        scripted = torch.jit.script(network)

        with torch.no_grad():
            torch.testing.assert_close(scripted(image), network(image))
