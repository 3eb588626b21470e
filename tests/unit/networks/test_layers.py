from __future__ import annotations

import torch
from torch import nn

from esp_medsam.networks.layers import ConvNorm, FeedForward, LayerNorm2d


class TestLayerNorm2d:
    def test_equals_layer_norm_over_the_channels(self) -> None:
        norm, reference = LayerNorm2d(8), nn.LayerNorm(8, eps=1e-6)
        with torch.no_grad():
            norm.weight.copy_(torch.randn(8))
            norm.bias.copy_(torch.randn(8))
        reference.load_state_dict(norm.state_dict())
        features = torch.randn(2, 8, 3, 5)

        normalized = norm(features)

        expected = reference(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(normalized, expected)


class TestConvNorm:
    def test_keeps_the_grid_at_stride_1_and_halves_it_at_stride_2(self) -> None:
        features = torch.randn(1, 4, 6, 10)

        assert ConvNorm(4, 8, 3)(features).shape == (1, 8, 6, 10)
        assert ConvNorm(4, 8, 3, stride=2)(features).shape == (1, 8, 3, 5)

    def test_starts_silent_with_a_zero_scale(self) -> None:
        assert not ConvNorm(4, 8, norm_init=0.0)(torch.randn(1, 4, 2, 2)).any()

    def test_convolution_has_no_bias(self) -> None:
        assert ConvNorm(4, 8).conv.bias is None


class TestFeedForward:
    def test_treats_tokens_alone(self) -> None:
        feed_forward, tokens = FeedForward(8, 16), torch.randn(2, 5, 8)

        together = feed_forward(tokens)

        torch.testing.assert_close(together[:, 3:4], feed_forward(tokens[:, 3:4]))
