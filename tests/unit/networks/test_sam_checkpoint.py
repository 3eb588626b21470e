from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from esp_medsam.errors import CheckpointError, CheckpointMismatchError
from esp_medsam.networks.sam_checkpoint import SAM_VARIANTS, SAMVariant, encoder_entries, from_sam


def official(variant: SAMVariant) -> dict[str, Tensor]:
    """A checkpoint of SAM, without storage."""
    encoder = {f"image_encoder.{key}": value for key, value in encoder_entries(variant).items()}
    rest = ("prompt_encoder.no_mask_embed.weight", "mask_decoder.iou_token.weight")
    return encoder | {key: torch.empty(1, 256, device="meta") for key in rest}


class TestFromSam:
    @pytest.mark.parametrize("variant", SAM_VARIANTS, ids=lambda variant: variant.name)
    def test_recognizes_each_variant_and_hands_its_encoder_on(self, variant: SAMVariant) -> None:
        checkpoint = from_sam(official(variant))

        assert checkpoint.variant == variant
        assert set(checkpoint.state_dict) == set(encoder_entries(variant))

    @pytest.mark.parametrize(
        ("name", "parameters"),
        [("vit_b", 89_670_912), ("vit_l", 308_278_272), ("vit_h", 637_026_048)],
    )
    def test_table_adds_up_to_the_published_encoders(self, name: str, parameters: int) -> None:
        variant = next(variant for variant in SAM_VARIANTS if variant.name == name)

        assert sum(entry.numel() for entry in encoder_entries(variant).values()) == parameters

    def test_global_blocks_have_longer_relative_positions(self) -> None:
        entries = encoder_entries(SAM_VARIANTS[0])

        lengths = [len(entries[f"blocks.{block}.attn.rel_pos_h"]) for block in range(12)]
        assert lengths == [27, 27, 127, 27, 27, 127, 27, 27, 127, 27, 27, 127]

    def test_refuses_other_heads_than_the_table_says(self) -> None:
        state_dict = official(SAM_VARIANTS[0])
        for key, value in state_dict.items():
            if ".rel_pos_" in key:
                state_dict[key] = torch.empty(len(value), 48, device="meta")

        with pytest.raises(CheckpointMismatchError, match=r"rel_pos_h \(27, 48\) for \(27, 64\)"):
            from_sam(state_dict)

    def test_refuses_another_depth_and_unknown_entries_together(self) -> None:
        state_dict = official(SAM_VARIANTS[0])
        del state_dict["image_encoder.blocks.11.norm1.bias"]
        state_dict["image_encoder.blocks.12.norm1.bias"] = torch.empty(768, device="meta")
        state_dict["adapter.weight"] = torch.empty(1, device="meta")

        with pytest.raises(CheckpointMismatchError, match="1 missing: image_encoder") as caught:
            from_sam(state_dict)

        assert caught.value.missing == ("image_encoder.blocks.11.norm1.bias",)
        assert caught.value.unexpected == ("image_encoder.blocks.12.norm1.bias", "adapter.weight")

    def test_refuses_an_unknown_width(self) -> None:
        state_dict = {"image_encoder.patch_embed.proj.weight": torch.empty(384, 3, 16, 16)}

        with pytest.raises(CheckpointError, match=re.escape("vit_h (1280); got width 384")):
            from_sam(state_dict)

    def test_refuses_what_is_no_sam_checkpoint(self) -> None:
        with pytest.raises(
            CheckpointError, match=r"a\.pth must be a SAM checkpoint of vit_b \(768\)"
        ):
            from_sam({"weight": torch.ones(1)}, source="a.pth")
