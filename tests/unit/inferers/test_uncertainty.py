from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esp_medsam.inferers.uncertainty import uncertainty_of


def of(*values: list[int]) -> float:
    return uncertainty_of(torch.tensor(values, dtype=torch.uint8)[:, None])


class TestUncertainty:
    def test_of_a_certain_mask_is_none(self) -> None:
        assert of([0, 255, 255, 0]) == 0

    def test_of_a_certain_absence_is_none(self) -> None:
        assert of([0, 0, 0]) == 0

    def test_of_an_empty_mask_is_the_highest_probability(self) -> None:
        assert of([0, 102, 51]) == pytest.approx(0.4)

    def test_is_what_the_dice_to_expect_lacks_of_1(self) -> None:
        """Two voxels of 0.8 in the mask, one of 0.4 outside: 2 x 1.6 of 2 + 2."""
        assert of([204, 204, 102]) == pytest.approx(1 - 3.2 / 4)

    def test_of_several_targets_is_the_mean(self) -> None:
        assert of([0, 255], [0, 102]) == pytest.approx(0.2)

    def test_without_a_target_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least one target"):
            uncertainty_of(torch.zeros(0, 2, 2, dtype=torch.uint8))

    @given(st.lists(st.integers(0, 255), min_size=1, max_size=50))
    def test_is_from_0_to_1_and_independent_of_order(self, values: list[int]) -> None:
        found = of(values)

        assert 0 <= found < 1
        assert of(values[::-1]) == pytest.approx(found)
