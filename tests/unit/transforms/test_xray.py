from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esp_medsam.errors import OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.transforms.xray import (
    CropCollimation,
    MeasureWindow,
)


slices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=24).map(lambda side: (1, *side)),
    elements=st.floats(0, 1, width=32),
)


def record(window: tuple[float, float] | None, *, inverted: bool = False) -> Image:
    return Image(
        path="a",
        name="a",
        modality="xray",
        grid=Grid(shape=(4, 4)),
        window=window,
        inverted=inverted,
    )


def collimated(level: float = 0.0, noise: float = 0.01) -> torch.Tensor:
    """A textured field of 60 by 40 pixels in a border of one level."""
    image = level + noise * torch.randn(1, 100, 90)
    image[:, 20:80, 30:70] = 0.2 + 0.6 * torch.rand(1, 60, 40)
    return image.clamp(0, 1)


class TestMeasureWindow:
    @pytest.mark.parametrize(
        ("inverted", "expected"), [(False, (10.0, 200.0)), (True, (200.0, 10.0))]
    )
    def test_takes_what_the_file_asks_for(
        self, inverted: bool, expected: tuple[float, float]
    ) -> None:
        pixels = np.arange(256, dtype=np.uint16).reshape(1, 16, 16)

        result = MeasureWindow()(pixels, record((10.0, 200.0), inverted=inverted))

        assert result.intensity_range == expected
        assert result.warnings == ()

    def test_leaves_the_record_without_a_window(self) -> None:
        before = record(None)

        assert MeasureWindow()(np.zeros((1, 4, 4)), before) is before

    def test_window_of_other_pixels_gives_way_with_a_warning(self) -> None:
        pixels = torch.arange(10000, 20000, dtype=torch.int32).view(1, 100, 100)

        result = MeasureWindow()(pixels, record((0.0, 255.0)))

        assert result.intensity_range == pytest.approx((10050, 19949), abs=1)
        (warning,) = result.warnings
        assert "less than 5 %" in warning

    def test_two_values_at_the_ends_keep_their_window(self) -> None:
        pixels = np.eye(16, dtype=np.uint8)[None] * 255

        assert MeasureWindow()(pixels, record((0.0, 255.0))).intensity_range == (0.0, 255.0)

    @pytest.mark.parametrize("least", [-0.1, 1.1])
    def test_refuses_a_part_that_is_none(self, least: float) -> None:
        with pytest.raises(OptionError, match="least must be at least 0 and at most 1"):
            MeasureWindow(least=least)


class TestCropCollimation:
    @pytest.mark.parametrize("level", [0.0, 1.0])
    def test_crops_a_border_black_or_white(self, level: float) -> None:
        rows, columns = CropCollimation().find(collimated(level))

        assert (rows, columns) == (slice(20, 80), slice(30, 70))

    def test_inverse_restores_the_size_exactly(self) -> None:
        image, crop = collimated(), CropCollimation()

        part = crop(image)
        back = crop.inverse(part)

        assert part.shape == (1, 60, 40)
        assert torch.equal(back[:, 20:80, 30:70], part)
        assert back.shape == image.shape
        assert torch.count_nonzero(back) == torch.count_nonzero(part)

    def test_stops_at_text(self) -> None:
        image = collimated()
        image[:, 5:15, 40:60] = 1.0

        rows, _ = CropCollimation().find(image)

        assert rows == slice(5, 80)

    @given(pixels=slices)
    def test_any_image_keeps_a_third_at_least(self, pixels: np.ndarray) -> None:
        box = CropCollimation().find(pixels)

        for part, side in zip(box, pixels.shape[1:], strict=True):
            assert 0 <= part.start < part.stop <= side
            assert part.stop - part.start >= 0.3 * side

    @pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
    def test_constant_image_stays_whole(self, value: float) -> None:
        assert CropCollimation()(torch.full((3, 10, 12), value)).shape == (3, 10, 12)
