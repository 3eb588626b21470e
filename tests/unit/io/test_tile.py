from __future__ import annotations

import numpy as np

from esp_medsam.io.tile import gray_to_rgb, scaled


class TestScaling:
    def test_size_is_width_and_height(self) -> None:
        assert scaled(np.zeros((4, 6, 3), np.uint8), (12, 8)).shape == (8, 12, 3)

    def test_limits_are_black_and_white(self) -> None:
        values = np.array([[[-200, -160, 40, 240, 900]]], np.int16)

        assert gray_to_rgb(values, (-160.0, 240.0))[0, :, 0].tolist() == [0, 0, 128, 255, 255]
