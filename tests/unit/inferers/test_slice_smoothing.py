"""Probabilities of a volume smoothed across its slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from esp_medsam.errors import OptionError
from esp_medsam.inferers.slice_smoothing import (
    slice_smoothing_of,
    smooth_across_slices,
)


def smoothed(values: np.ndarray, axis: int, positions: list[float], mm: float) -> np.ndarray:
    result = torch.from_numpy(values.copy())
    smooth_across_slices(result, axis, positions, mm)
    return result.numpy()


def literally(values: np.ndarray, axis: int, positions: list[float], mm: float) -> np.ndarray:
    """The definition, with the whole volume as floats."""
    distance = np.subtract.outer(positions, positions)
    weights = np.exp(-0.5 * (distance / mm) ** 2) * (np.abs(distance) <= 3 * mm)
    weights /= weights.sum(1, keepdims=True)
    mean = np.moveaxis(values, axis + 1, -1).astype(float) @ weights.T
    return np.moveaxis(mean, -1, axis + 1)


class TestSmoothAcrossSlices:
    @given(
        st.data(),
        st.integers(0, 2),
        st.floats(0.1, 20),
        st.lists(st.floats(0.2, 8), min_size=5, max_size=5),
    )
    def test_is_the_weighted_mean_whatever_the_axis_and_the_gaps(
        self, data: st.DataObject, axis: int, mm: float, gaps: list[float]
    ) -> None:
        shape = [2, 3, 3, 3]
        shape[axis + 1] = 6
        values = data.draw(arrays.arrays(np.uint8, tuple(shape)))
        positions = [0.0, *np.cumsum(gaps).tolist()]

        result = smoothed(values, axis, positions, mm)

        assert np.abs(result - literally(values, axis, positions, mm)).max() <= 0.501

    def test_leaves_every_bit_at_0_mm(self) -> None:
        values = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 5), dtype=np.uint8)

        assert np.array_equal(smoothed(values, 2, [0, 1, 2, 3, 4], 0), values)

    def test_leaves_what_is_the_same_in_all_slices(self) -> None:
        values = np.repeat(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), 7, axis=3)

        assert np.array_equal(smoothed(values, 2, list(range(7)), 1.5), values)

    def test_does_not_reach_over_a_gap(self) -> None:
        values = np.zeros((1, 1, 1, 4), np.uint8)
        values[..., 2:] = 200

        assert smoothed(values, 2, [0, 1, 50, 51], 1.0).ravel().tolist() == [0, 0, 200, 200]

    def test_takes_away_what_one_slice_alone_says(self) -> None:
        values = np.zeros((1, 2, 2, 7), np.uint8)
        values[..., 3] = 255

        result = smoothed(values, 2, list(range(7)), 1.0)

        assert result.max() == round(255 / (1 + 2 * sum(np.exp([-0.5, -2.0, -4.5]))))
        assert result.max() < 128

    @pytest.mark.parametrize("mm", [-1.0, float("nan"), float("inf"), 21.0])
    def test_mm_must_be_a_length(self, mm: float) -> None:
        with pytest.raises(OptionError, match=r"slice_smoothing must be 0 \(off\) to 20 mm"):
            slice_smoothing_of(mm)
