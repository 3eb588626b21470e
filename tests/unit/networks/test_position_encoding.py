from __future__ import annotations

import math

import torch

from esp_medsam.networks.position_encoding import RandomFourierEncoding


class TestRandomFourierEncoding:
    def test_encodes_cell_centers_x_first(self) -> None:
        encoding = RandomFourierEncoding(8)
        frequencies = encoding.frequencies

        encoded = encoding(4, 6)

        x, y = 2 * (2.5 / 6) - 1, 2 * (1.5 / 4) - 1
        angle = 2 * math.pi * (x * frequencies[0] + y * frequencies[1])
        assert encoded.shape == (1, 8, 4, 6)
        torch.testing.assert_close(encoded[0, :, 1, 2], torch.cat([angle.sin(), angle.cos()]))

    def test_frequencies_are_kept_with_the_weights_and_not_trained(self) -> None:
        encoding = RandomFourierEncoding(8)

        assert list(encoding.state_dict()) == ["frequencies"]
        assert not list(encoding.parameters())
