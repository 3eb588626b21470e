from __future__ import annotations

from collections import Counter

import pytest

from esp_medsam.modality import ModalityTable
from esp_medsam.networks import build_paper, build_product, build_released
from esp_medsam.networks.builders import (
    RELEASED_MODALITIES,
    RELEASED_TARGETS,
    UnusedPromptEncoder,
)


class TestBuildReleased:
    def test_counts_are_the_published_checkpoints(self) -> None:
        network = build_released("xray")

        counts = Counter[str]()
        for name, parameter in network.named_parameters():
            counts["controllers" if ".controllers." in name else name.split(".")[0]] += (
                parameter.numel()
            )
        assert counts == {
            "image_encoder": 6_065_532,
            "controllers": 3_144_202,
            "prompt_generator": 66_817,
            "modality_query": 1_792,
            "mask_decoder": 3_505_024,
            "unused_prompt_encoder": 6_220,
        }
        assert sum(p.numel() for p in network.parameters()) == 12_789_587
        assert len(network.state_dict()) == 504 + 6  # the query's seven rows lie apart here

    def test_six_controllers_come_to_28_5_million(self) -> None:
        network = build_released(list(RELEASED_MODALITIES))

        assert sum(p.numel() for p in network.parameters()) == 28_510_597

    @pytest.mark.parametrize("modality", ["ct", [], ["xray", "mri"]])
    def test_refuses_what_was_not_released(self, modality: str | list[str]) -> None:
        with pytest.raises(ValueError, match="modality must be one of dermoscopy,"):
            build_released(modality)


class TestBuildPaper:
    def test_has_a_hypernetwork_per_query_and_separate_tokens(self) -> None:
        network = build_paper()

        names = network.state_dict()
        assert list(network.modalities) == list(RELEASED_TARGETS)
        assert "mask_decoder.hypernetwork.targets.fundus.vessels.fc1.weight" in names
        assert "image_encoder.stages.0.blocks.0.bank.controllers.fundus.value" in names
        # Published: 28,887,997 with one token, the spare query and SAM's unused prompts.
        expected = 28_887_997 + 6 * 1_856 - 256 - 6_220
        assert sum(p.numel() for p in network.parameters()) == expected


class TestBuildProduct:
    def test_shipped_table_stays_below_20_million_parameters(self, table: ModalityTable) -> None:
        network = build_product(table.indices, table.target_names)

        assert list(network.modalities) == list(table.names)
        assert network.default_modality == "ct"
        assert sum(p.numel() for p in network.parameters()) < 20_000_000

    def test_expert_ratio_sets_the_experts_alone(self) -> None:
        arguments = ({"ct": 6}, {"ct": ["liver"]})
        narrow = build_product(*arguments, expert_ratio=0.25)
        wide = build_product(*arguments, expert_ratio=1.0)

        different = {
            name
            for name, value in wide.state_dict().items()
            if narrow.state_dict()[name].shape != value.shape
        }
        assert different
        assert all(".expert.fc" in name for name in different)


class TestUnusedPromptEncoder:
    def test_holds_as_many_parameters_as_sams(self) -> None:
        assert sum(p.numel() for p in UnusedPromptEncoder().parameters()) == 6_220
