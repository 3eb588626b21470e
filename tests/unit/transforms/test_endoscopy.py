from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor
from PIL import Image as PillowImage
from torch import Tensor

from esp_medsam.transforms.endoscopy import (
    CropBlackBorder,
    SuppressSpecular,
)


PICTURE = (slice(30, 150), slice(50, 220))


def framed(level: float = 0.05) -> Tensor:
    """A picture with corners cut off, in a dark border with letters beside it."""
    image = torch.full((3, 180, 240), level) + 0.01 * torch.rand(3, 180, 240)
    picture = torch.rand(3, 120, 170) * 0.2 + torch.tensor([0.6, 0.4, 0.3]).view(3, 1, 1)
    rows, columns = torch.meshgrid(torch.arange(120), torch.arange(170), indexing="ij")
    lit = (rows + columns > 20) & (rows + columns < 268)
    image[(slice(None), *PICTURE)] = torch.where(lit, picture, image[(slice(None), *PICTURE)])
    for row in range(20, 160, 14):
        image[:, row : row + 6, 6:9] = 0.9  # an I
        image[:, row : row + 6, 14:30:4] = 0.9  # an M or W
    return image


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    path = Path(skimage.__file__).parent / "data" / "chelsea.png"
    pixels = np.asarray(PillowImage.open(path).convert("RGB"), dtype=np.float32)
    return torch.from_numpy(pixels / 255.0).permute(2, 0, 1).contiguous()


class TestCropBlackBorder:
    @pytest.mark.parametrize("level", [0.0, 0.05, 0.1])
    def test_leaves_the_border_and_the_letters_out(self, level: float) -> None:
        rows, columns = CropBlackBorder().find(framed(level))

        assert (rows, columns) == PICTURE

    @pytest.mark.parametrize("channels", [1, 3])
    def test_inverse_puts_everything_back_in_its_place(self, channels: int) -> None:
        image = framed()[:channels]
        crop = CropBlackBorder()

        cropped = crop(image)
        restored = crop.inverse(cropped)

        assert cropped.shape == (channels, 120, 170)
        expected = torch.zeros_like(image)
        expected[(slice(None), *PICTURE)] = image[(slice(None), *PICTURE)]
        assert torch.equal(restored.as_tensor(), expected)

    def test_inverse_serves_results_of_other_channels_and_types(self) -> None:
        crop = CropBlackBorder()
        cropped = crop(framed())
        result = MetaTensor(torch.full((2, 120, 170), 7, dtype=torch.uint8))
        result.applied_operations = cropped.applied_operations

        restored = crop.inverse(result)

        assert restored.dtype == torch.uint8
        assert restored.shape == (2, 180, 240)
        assert restored.sum() == 7 * 2 * 120 * 170

    def test_is_idempotent(self) -> None:
        crop = CropBlackBorder()

        once = crop(framed())

        assert crop(once).shape == once.shape

    def test_finds_the_box_of_a_large_image_to_a_coarse_pixel(self) -> None:
        large = framed().repeat_interleave(6, 1).repeat_interleave(6, 2)

        rows, columns = CropBlackBorder().find(large)

        assert 180 - 12 <= rows.start <= 180
        assert 900 <= rows.stop <= 900 + 12
        assert 300 - 12 <= columns.start <= 300
        assert 1320 <= columns.stop <= 1320 + 12

    @pytest.mark.parametrize("value", [0.0, 0.05, 0.5, 1.0])
    def test_takes_all_of_a_constant_image(self, value: float) -> None:
        assert CropBlackBorder()(torch.full((3, 20, 30), value)).shape == (3, 20, 30)

    def test_takes_all_of_a_photograph_without_border(self, photograph: Tensor) -> None:
        assert CropBlackBorder()(photograph).shape == photograph.shape

    def test_finds_a_photograph_put_in_a_border(self, photograph: Tensor) -> None:
        image = torch.nn.functional.pad(photograph, (80, 40, 20, 60), value=0.04)

        rows, columns = CropBlackBorder().find(image)

        height, width = photograph.shape[-2:]
        assert abs(rows.start - 20) <= 6
        assert abs(rows.stop - 20 - height) <= 6
        assert abs(columns.start - 80) <= 6
        assert abs(columns.stop - 80 - width) <= 6

    @given(st.integers(1, 9), st.integers(1, 9))
    def test_takes_images_of_any_size(self, rows: int, columns: int) -> None:
        image = torch.rand(3, rows, columns)
        crop = CropBlackBorder()

        cropped = crop(image)

        assert crop.inverse(cropped).shape == image.shape


class TestSuppressSpecular:
    @pytest.fixture
    def shining(self) -> Tensor:
        image = torch.tensor([0.6, 0.3, 0.25]).view(3, 1, 1).repeat(1, 60, 80)
        image[:, 20:24, 30:35] = 0.97
        return image

    def test_fills_highlights_from_around_them(self, shining: Tensor) -> None:
        result = SuppressSpecular()(shining)

        mucosa = torch.tensor([0.6, 0.3, 0.25]).view(3, 1, 1).expand_as(result)
        torch.testing.assert_close(result, mucosa)

    def test_changes_nothing_away_from_highlights(self, photograph: Tensor) -> None:
        image = photograph.clone()
        image[:, 100:104, 200:205] = 1.0

        result = SuppressSpecular(brightness=0.95)(image)

        changed = (result != image).any(0).nonzero()
        assert len(changed)
        assert changed.amin(0).tolist() >= [100 - 2, 200 - 2]
        assert changed.amax(0).tolist() <= [103 + 2, 204 + 2]

    def test_leaves_large_white_areas(self, shining: Tensor) -> None:
        shining[:, 30:60, 40:80] = 0.95

        result = SuppressSpecular()(shining)

        assert (result[:, 34:, 44:] == 0.95).all()

    def test_does_not_fill_from_the_black_border(self, shining: Tensor) -> None:
        shining[:, :, :30] = 0.02

        result = SuppressSpecular()(shining)

        assert (result[:, :, :30] == 0.02).all()
        assert result[0, 20:24, 30:].min() > 0.55

    def test_leaves_gray_images(self) -> None:
        image = torch.ones(1, 8, 8)

        assert torch.equal(SuppressSpecular()(image), image)
