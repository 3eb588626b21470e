from __future__ import annotations

import torch

from esp_medsam.networks.image_encoder import TinyViTImageEncoder
from esp_medsam.networks.modality_controller import route


class TestTinyViTImageEncoder:
    def test_gives_the_embedding_at_stride_16_and_the_pyramid(self) -> None:
        encoder = TinyViTImageEncoder({"ct": 6}).eval()

        features = encoder(torch.randn(2, 3, 96, 64), route(0, None, 1))

        assert features.image_embedding.shape == (2, 256, 6, 4)
        assert [level.shape[1] for level in features.pyramid] == list(encoder.pyramid_channels)
        assert [96 // level.shape[2] for level in features.pyramid] == [2, 4, 8]

    def test_holds_the_classifier_only_where_asked(self) -> None:
        without = TinyViTImageEncoder({}).state_dict()
        with_it = TinyViTImageEncoder({}, keep_classifier=True).state_dict()

        extra = {name: value.numel() for name, value in with_it.items() if name not in without}
        assert all(name.startswith("classifier.") for name in extra)
        assert sum(extra.values()) == 321_640

    def test_controllers_lie_in_every_transformer_block_and_nowhere_else(self) -> None:
        encoder = TinyViTImageEncoder({"ct": 6, "mri": 7})

        names = [name for name, _ in encoder.named_modules() if name.endswith(".controllers")]

        assert names == [
            f"stages.{stage}.blocks.{block}.bank.controllers"
            for stage, depth in enumerate((2, 6, 2))
            for block in range(depth)
        ]
        assert list(encoder.get_submodule(names[0])._modules) == ["ct", "mri"]
