from __future__ import annotations

import torch

from esp_medsam.networks.hypernetwork import Hypernetwork
from esp_medsam.networks.mask_decoder import MaskDecoder


class TestMaskDecoder:
    def test_reads_the_mask_off_with_the_query_in_its_place(self) -> None:
        decoder = MaskDecoder(Hypernetwork(16, 16, out_dim=2), 16)
        source, image_pe = torch.randn(2, 16, 3, 5), torch.randn(1, 16, 3, 5)
        tokens = torch.randn(1, 4, 16).expand(2, 4, 16)

        logits, token = decoder(
            source, image_pe, tokens, torch.tensor([0, 2]), torch.tensor([0, 2])
        )

        other, other_token = decoder(
            source[1:], image_pe, tokens[1:], torch.tensor([0]), torch.tensor([0])
        )
        assert logits.shape == (2, 12, 20)
        assert token.shape == (2, 16)
        assert not torch.allclose(token[1:], other_token)
        assert not torch.allclose(logits[1:], other)
