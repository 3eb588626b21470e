from __future__ import annotations

import torch

from esp_medsam.networks.two_way_transformer import Attention, TwoWayBlock, TwoWayTransformer


class TestAttention:
    def test_equals_softmax_attention_in_the_smaller_width(self) -> None:
        attention = Attention(8, 1, downsample=2)
        query, key, value = torch.randn(1, 3, 8), torch.randn(1, 5, 8), torch.randn(1, 5, 8)

        found = attention(query, key, value)

        logits = attention.q_proj(query) @ attention.k_proj(key).transpose(1, 2) / 4**0.5
        expected = attention.out_proj(logits.softmax(-1) @ attention.v_proj(value))
        torch.testing.assert_close(found, expected)


class TestTwoWayBlock:
    def test_first_block_replaces_the_tokens_without_positions(self) -> None:
        block = TwoWayBlock(8, 2, 16, skip_first_pe=True)
        tokens, image, image_pe = torch.randn(1, 1, 8), torch.randn(1, 4, 8), torch.randn(1, 4, 8)
        for parameter in block.self_attn.out_proj.parameters():
            torch.nn.init.zeros_(parameter)

        first = block(tokens, image, tokens * 0, image_pe)
        second = block(tokens + 1, image, tokens * 0, image_pe)

        torch.testing.assert_close(first, second)


class TestTwoWayTransformer:
    def test_keeps_shapes_and_pairs_apart(self) -> None:
        transformer = TwoWayTransformer(16, heads=2, mlp_dim=32)
        tokens, image, image_pe = (
            torch.randn(2, 3, 16),
            torch.randn(2, 6, 16),
            torch.randn(1, 6, 16),
        )

        out_tokens, out_image = transformer(tokens, image, image_pe)
        alone_tokens, alone_image = transformer(tokens[1:], image[1:], image_pe)

        assert out_tokens.shape == (2, 3, 16)
        assert out_image.shape == (2, 6, 16)
        torch.testing.assert_close(out_tokens[1:], alone_tokens)
        torch.testing.assert_close(out_image[1:], alone_image)
