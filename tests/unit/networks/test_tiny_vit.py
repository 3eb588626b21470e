from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from esp_medsam.networks.modality_controller import WindowToken, route
from esp_medsam.networks.tiny_vit import (
    MBConv,
    PatchMerging,
    TinyViTBlock,
    TransformerStage,
    WindowAttention,
)


@pytest.fixture
def attention() -> WindowAttention:
    attention = WindowAttention(8, 2, 3)
    torch.nn.init.normal_(attention.attention_biases)
    return attention


def make_block(window: int) -> TinyViTBlock:
    block = TinyViTBlock(8, 2, window, modalities=["ct", "mri"], expert_ratio=0.5, tied_token=True)
    return block.eval()


def one_by_one(attention: WindowAttention, tokens: Tensor, token: WindowToken) -> Tensor:
    """The released code's arithmetic, spelled out for one window, ``(9, C)``, and 2 heads."""
    count, dim = tokens.shape
    qkv = attention.qkv(attention.norm(tokens)).view(count, 2, 3, dim // 2)
    places = [(row, column) for row in range(3) for column in range(3)]
    mixed = torch.empty(count, 2, dim // 2)
    for head in range(2):
        query, key, value = qkv[:, head].unbind(1)
        key = torch.cat([key, token.key[0, head][None]])
        value = torch.cat([value, token.value[0, head][None]])
        logits = query @ key.T / math.sqrt(dim // 2)
        for i, (row, column) in enumerate(places):
            for j, (other_row, other_column) in enumerate(places):
                offset = abs(row - other_row) * 3 + abs(column - other_column)
                logits[i, j] = logits[i, j] + attention.attention_biases[head, offset]
        logits[:, count] = logits[:, count] + token.bias
        mixed[:, head] = logits.softmax(-1) @ value
    out: Tensor = attention.proj(mixed.flatten(1))
    return out


class TestWindowAttention:
    def test_equals_the_released_arithmetic(self, attention: WindowAttention) -> None:
        windows = torch.randn(1, 2, 9, 8)
        token = WindowToken(torch.randn(1, 2, 4), torch.randn(1, 2, 4), torch.randn(1))

        with torch.no_grad():
            attended = attention(windows, token)

            for window in range(2):
                expected = one_by_one(attention, windows[0, window], token)
                torch.testing.assert_close(attended[0, window], expected)

    def test_token_bias_of_minus_infinity_silences_the_token(
        self, attention: WindowAttention
    ) -> None:
        windows, silent = torch.randn(1, 1, 9, 8), torch.tensor([-1e9])
        keys = [torch.randn(1, 2, 4) for _ in range(2)]

        first = attention(windows, WindowToken(keys[0], keys[0], silent))
        second = attention(windows, WindowToken(keys[1], keys[1], silent))

        torch.testing.assert_close(first, second)

    def test_offset_table_is_not_part_of_the_weights(self, attention: WindowAttention) -> None:
        assert "bias_index" not in attention.state_dict()


class TestTinyViTBlock:
    @pytest.mark.parametrize("grid", [(6, 6), (7, 5), (3, 10)])
    def test_keeps_any_grid(self, grid: tuple[int, int]) -> None:
        features = torch.randn(2, 8, *grid)

        assert make_block(3)(features, route(0, None, 2)).shape == features.shape

    def test_windows_do_not_see_each_other_before_the_convolution(self) -> None:
        block, grid = make_block(3), torch.randn(1, 6, 6, 8)
        token = block.bank.window_token(route(0, None, 2))
        changed = grid.clone()
        changed[:, :3, :3] += 1

        difference = block.attend(changed, token) - block.attend(grid, token)

        assert difference[:, :3, :3].any()
        assert not difference[:, 3:].any()
        assert not difference[:, :3, 3:].any()

    def test_padding_takes_part_in_the_attention_as_released(self) -> None:
        block, grid = make_block(3), torch.randn(1, 4, 4, 8)
        token = block.bank.window_token(route(0, None, 2))
        padded = torch.nn.functional.pad(grid, (0, 0, 0, 2, 0, 2))

        attended = block.attend(grid, token)

        assert torch.equal(attended, block.attend(padded, token)[:, :4, :4])

    def test_expert_is_as_wide_as_asked(self) -> None:
        assert make_block(3).bank.controllers["ct"].expert.fc1.weight.shape == (4, 8)


class TestTransformerStage:
    def test_returns_features_before_and_after_the_merge(self) -> None:
        stage = TransformerStage([make_block(3)], PatchMerging(8, 16, stride=2)).eval()

        before, after = stage(torch.randn(1, 8, 6, 6), route(0, None, 2))

        assert before.shape == (1, 8, 6, 6)
        assert after.shape == (1, 16, 3, 3)


class TestMBConv:
    def test_starts_as_an_activation_alone(self) -> None:
        features = torch.randn(1, 4, 5, 5)

        expected = torch.nn.functional.gelu(features)
        torch.testing.assert_close(MBConv(4).eval()(features), expected)
