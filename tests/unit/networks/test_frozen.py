from __future__ import annotations

import pytest
import torch
from torch import nn

from esp_medsam.errors import OptionError
from esp_medsam.networks.frozen import freeze, hold_frozen_norms


@pytest.fixture
def network() -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "encoder": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)),
            "decoder": nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)),
        }
    )


class TestFreeze:
    def test_takes_what_patterns_match_out_of_training(self, network: nn.ModuleDict) -> None:
        frozen = freeze(network, ["encoder.*", "decoder.0.bias"])

        assert frozen == [
            *("encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias"),
            "decoder.0.bias",
        ]
        assert [n for n, p in network.named_parameters() if not p.requires_grad] == frozen

    def test_no_pattern_freezes_nothing(self, network: nn.ModuleDict) -> None:
        assert freeze(network, []) == []
        assert all(p.requires_grad for p in network.parameters())

    @pytest.mark.parametrize(
        ("frozen", "trained", "found"),
        [
            (["encoder.*", "encodr.*"], [], r"got 'encodr\.\*'\. They begin with decoder\., enc"),
            (["*"], ["head.*"], r"trained must match names.*got 'head\.\*'"),
        ],
    )
    def test_refuses_a_pattern_that_matches_nothing(
        self, network: nn.ModuleDict, frozen: list[str], trained: list[str], found: str
    ) -> None:
        with pytest.raises(OptionError, match=found):
            freeze(network, frozen, trained=trained)
        assert all(p.requires_grad for p in network.parameters())

    def test_refuses_to_freeze_all(self, network: nn.ModuleDict) -> None:
        with pytest.raises(OptionError, match=r"must leave.*to train; \* match all"):
            freeze(network, ["*"])

    def test_what_trains_all_the_same_is_named_beside_it(self, network: nn.ModuleDict) -> None:
        freeze(network, ["*"], trained=["decoder.1.*"])

        training = [n for n, p in network.named_parameters() if p.requires_grad]
        assert training == ["decoder.1.weight", "decoder.1.bias"]


class TestHoldFrozenNorms:
    def test_their_statistics_stay_and_the_others_follow(self, network: nn.ModuleDict) -> None:
        freeze(network, ["encoder.*"])
        network.train()

        hold_frozen_norms(network)
        network["decoder"](network["encoder"](torch.randn(2, 3, 4, 4) + 5))

        assert network["encoder"][1].running_mean.abs().max() == 0
        assert network["decoder"][1].running_mean.abs().max() > 0
