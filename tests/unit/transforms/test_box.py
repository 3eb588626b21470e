from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from esp_medsam.errors import OptionError
from esp_medsam.transforms.box import CropToBox, crop_of_stack
from esp_medsam.transforms.endoscopy import CropBlackBorder


class TestCropToBox:
    def test_inverse_puts_the_part_back_among_zeros(self) -> None:
        image = torch.rand(3, 6, 7)
        crop = CropToBox(rows=(1, 4), columns=(2, 7))

        part = crop(image)
        back = crop.inverse(part)

        assert part.shape == (3, 3, 5)
        inside = torch.zeros_like(image)
        inside[:, 1:4, 2:7] = 1
        assert torch.equal(back.as_tensor(), image * inside)

    @pytest.mark.parametrize("rows", [(5, 2), (2, 2), (-1, 2), (0.5, 2), (1,), 3, "ab"])
    def test_refuses_what_is_no_box(self, rows: Any) -> None:
        with pytest.raises(OptionError, match="rows must be two ascending whole numbers from 0"):
            CropToBox(rows=rows, columns=(0, 2))

    def test_refuses_a_slice_that_ends_before_it(self) -> None:
        crop = CropToBox(rows=(1, 4), columns=(7, 9))

        with pytest.raises(OptionError, match=r"columns must begin before 7, .*; got 7"):
            crop(torch.zeros(1, 6, 7))


def frame(rows: slice, columns: slice) -> Tensor:
    image = torch.zeros(1, 60, 80)
    image[:, rows, columns] = 0.6
    return image


SMALL, LARGE = frame(slice(10, 50), slice(20, 60)), frame(slice(12, 54), slice(16, 58))


class TestCropOfStack:
    def test_is_around_the_boxes_of_all_slices(self) -> None:
        crop = crop_of_stack(CropBlackBorder(), [SMALL, LARGE])

        assert crop(SMALL).shape == crop(LARGE).shape == (1, 44, 44)
        assert torch.equal(crop(LARGE).as_tensor(), LARGE[:, 10:54, 16:60])

    @pytest.mark.parametrize("level", [0.0, 0.04, 0.9])
    def test_hears_no_slice_that_shows_nothing(self, level: float) -> None:
        crop = crop_of_stack(CropBlackBorder(), [torch.full_like(SMALL, level), SMALL])

        assert crop(SMALL).shape == (1, 40, 40)

    def test_leaves_all_whole_where_one_is_in_doubt(self) -> None:
        doubtful = frame(slice(0, 60, 2), slice(0, 80, 2))

        assert crop_of_stack(CropBlackBorder(), [SMALL, doubtful])(SMALL).shape == SMALL.shape

    @pytest.mark.parametrize("slices", [[], [torch.zeros(1, 9, 9)], [SMALL, SMALL[:, 5:]]])
    def test_is_the_crop_itself_where_no_box_serves_all(self, slices: list[Tensor]) -> None:
        own = CropBlackBorder()

        assert crop_of_stack(own, slices) is own
