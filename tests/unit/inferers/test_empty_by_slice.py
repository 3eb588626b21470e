"""Probabilities lie in memory as they are written: slice after slice, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esp_medsam.inferers.preparation import empty_by_slice
from esp_medsam.orientation import Display


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_one_piece_and_is_read_where_it_was_put(axis: int, transpose: bool) -> None:
    display = Display(slice_axis=axis, transpose=transpose)
    values = torch.randint(0, 255, (2, 4, 5, 6), dtype=torch.uint8)
    whole = empty_by_slice(display, 2, (4, 5, 6))

    for index in range(display.count((4, 5, 6))):
        display.put(whole, index, display.show(values, index))

    assert torch.equal(whole, values)
    for index in range(display.count((4, 5, 6))):
        assert display.show(whole, index)[0].is_contiguous()


def test_an_axial_volume_lies_as_in_a_nifti_file() -> None:
    whole = empty_by_slice(Display(slice_axis=2, transpose=True), 1, (4, 5, 6))

    assert np.asarray(whole[0]).flags.f_contiguous


def test_a_picture_lies_row_by_row() -> None:
    assert empty_by_slice(Display(), 3, (4, 5)).is_contiguous()
