"""Presence: who is told, what it reads, and that nobody else notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from esp_medsam.networks import ESPMedSAM, build_paper
from esp_medsam.networks.builders import build_released_design
from esp_medsam.networks.checkpoints import load_grown
from esp_medsam.networks.esp_medsam import ABSENT_LOGIT
from esp_medsam.networks.presence import PresenceHeads


MakeNetwork = Callable[..., ESPMedSAM]
TARGETS = {"ct": ["liver", "kidney"], "mri": ["glioma"]}


@pytest.fixture
def with_presence(make_network: MakeNetwork) -> ESPMedSAM:
    return make_network(presence=True)


class TestPresenceHeads:
    def test_each_row_is_read_by_its_own_head(self) -> None:
        heads = PresenceHeads(TARGETS, embed_dim=8)
        glioma = heads.heads["mri"]["glioma"]
        torch.nn.init.normal_(glioma.attention, std=3.0)
        embedding = torch.randn(2, 8, 4, 6)

        logits = heads(embedding, torch.tensor([[0, 2], [1, 1]]))

        cells = embedding[0].flatten(1)
        share = torch.softmax(glioma.attention @ cells * 8**-0.5, dim=0)
        torch.testing.assert_close(logits[0, 1], glioma.weight @ cells @ share + glioma.bias[0])
        assert torch.equal(logits[1, 0], logits[1, 1])
        assert not torch.allclose(logits[0, 0], logits[0, 1])

    def test_one_cell_among_many_can_be_found(self) -> None:
        """Attention that learned where to look is not diluted by the image's size."""
        heads = PresenceHeads({"ct": ["liver"]}, embed_dim=8)
        head = heads.heads["ct"]["liver"]
        with torch.no_grad():
            head.attention.zero_()[0] = 100.0
            head.weight.zero_()[0] = 1.0
        embedding = torch.zeros(1, 8, 32, 32)
        embedding[0, 0, 5, 7] = 4.0

        assert heads(embedding, torch.tensor([[0]])) > 3.9

    def test_a_head_that_nothing_trained_says_that_its_target_is_there(self) -> None:
        heads = PresenceHeads({"ct": [f"t{number}" for number in range(200)]})

        logits = heads(torch.randn(4, 256, 1, 1), torch.arange(200).expand(4, -1))

        assert (logits > 0).all()  # one cell varies most: nothing is averaged

    def test_every_parameter_gets_a_gradient_from_the_start(self) -> None:
        heads = PresenceHeads({"ct": ["liver"]}, embed_dim=8)

        heads(torch.randn(2, 8, 4, 4), torch.tensor([[0], [0]])).sum().backward()

        assert all(p.grad is not None and p.grad.any() for p in heads.parameters())


class TestPrediction:
    def test_rows_beyond_an_image_hold_the_absent_logit(
        self, with_presence: ESPMedSAM, image: Tensor
    ) -> None:
        logits = with_presence.predict(image, torch.tensor([6, 3])).presence_logits

        assert logits.shape == (2, 2)
        assert (logits == ABSENT_LOGIT).tolist() == [[False, False], [False, True]]

    @pytest.mark.parametrize("build", [None, build_paper, build_released_design])
    def test_networks_without_heads_say_nothing(
        self, make_network: MakeNetwork, build: Callable[..., ESPMedSAM] | None, image: Tensor
    ) -> None:
        network = make_network() if build is None else make_network(build)

        assert network.predict(image).presence_logits.shape == (2, 0)
        assert not any(name.startswith("presence") for name in network.state_dict())

    def test_chosen_targets_come_in_their_order(
        self, with_presence: ESPMedSAM, image: Tensor
    ) -> None:
        modality = torch.tensor([6, 6])
        both = with_presence.predict(image, modality).presence_logits

        turned = with_presence.predict(image, modality, [1, 0]).presence_logits

        torch.testing.assert_close(turned, both.flip(1), atol=1e-5, rtol=0)

    def test_does_not_depend_on_the_patch_prompt(
        self, with_presence: ESPMedSAM, image: Tensor
    ) -> None:
        encoded = with_presence.encode(image, None)

        none, every = (
            with_presence.decode(encoded, None, None, torch.full((2, 2, 2, 3), value))
            for value in (0.0, 1.0)
        )

        assert torch.equal(none.presence_logits, every.presence_logits)
        assert not torch.equal(none.low_res_logits, every.low_res_logits)

    def test_scripts(self, with_presence: ESPMedSAM, image: Tensor) -> None:
        scripted = torch.jit.script(with_presence)
        expected = with_presence.predict(image, torch.tensor([6, 3])).presence_logits

        logits = scripted.predict(image, torch.tensor([6, 3]), None, None).presence_logits

        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


class TestLoadGrown:
    def test_weights_without_presence_start_a_network_with_it(
        self, make_network: MakeNetwork, with_presence: ESPMedSAM, image: Tensor
    ) -> None:
        old = make_network()

        fresh, left_out = load_grown(with_presence, old.state_dict())

        assert (fresh, left_out) == (["presence"], [])
        for ours, theirs in zip(with_presence.predict(image)[:3], old.predict(image), strict=False):
            assert torch.equal(ours, theirs)

    def test_weights_with_presence_start_a_network_without(
        self, make_network: MakeNetwork, with_presence: ESPMedSAM
    ) -> None:
        assert load_grown(make_network(), with_presence.state_dict()) == ([], ["presence"])

    def test_a_further_target_changes_no_old_presence(
        self, make_network: MakeNetwork, with_presence: ESPMedSAM, image: Tensor
    ) -> None:
        targets = {"ct": ["liver", "kidney", "spleen"], "fundus": ["vessels"]}
        grown = make_network(targets=targets, presence=True)

        fresh, left_out = load_grown(grown, with_presence.state_dict())

        assert (fresh, left_out) == (["ct.spleen"], [])
        old, new = (n.predict(image).presence_logits for n in (with_presence, grown))
        torch.testing.assert_close(new[:, :2], old, atol=1e-5, rtol=0)
