from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esp_medsam.modality import CleanUp
from esp_medsam.transforms.clean_up import clean_up


masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=7))
rules = st.builds(
    CleanUp,
    largest_component=st.booleans(),
    min_size=st.integers(0, 5),
    fill_holes=st.booleans(),
)


class TestCleanUp:
    @pytest.mark.parametrize("rule", [CleanUp(), CleanUp(min_size=1)])
    def test_is_off_unless_the_table_says_so(self, rule: CleanUp) -> None:
        assert clean_up(np.eye(4, dtype=bool), rule) is None

    def test_keeps_the_largest_component(self) -> None:
        mask = np.array([[1, 0, 1, 1], [0, 0, 0, 1]], bool)

        cleaned = clean_up(mask, CleanUp(largest_component=True))

        assert cleaned is not None
        assert cleaned.astype(int).tolist() == [[0, 0, 1, 1], [0, 0, 0, 1]]

    def test_drops_components_below_the_least_size(self) -> None:
        mask = np.array([[1, 0, 1, 1, 0, 1, 1, 1]], bool)

        cleaned = clean_up(mask, CleanUp(min_size=2))

        assert cleaned is not None
        assert cleaned.astype(int).tolist() == [[0, 0, 1, 1, 0, 1, 1, 1]]

    @pytest.mark.parametrize(
        ("voxel_ml", "kept"), [(0.1, [0, 0, 1, 1]), (0.05, [0, 0, 0, 0]), (None, [1, 0, 1, 1])]
    )
    def test_drops_components_below_the_least_volume_where_volumes_are_known(
        self, voxel_ml: float | None, kept: list[int]
    ) -> None:
        mask = np.array([[1, 0, 1, 1]], bool)

        cleaned = clean_up(mask, CleanUp(min_ml=0.2), voxel_ml)

        found = mask if cleaned is None else cleaned
        assert found[0].astype(int).tolist() == kept

    def test_fills_enclosed_holes_alone(self) -> None:
        mask = np.zeros((5, 7), bool)
        mask[1:4, 1:4] = True
        mask[2, 2] = False
        mask[1:4, 5] = True

        cleaned = clean_up(mask, CleanUp(fill_holes=True))

        assert cleaned is not None
        assert (cleaned ^ mask).nonzero() == (np.array([2]), np.array([2]))

    @given(masks, rules)
    def test_is_idempotent_and_leaves_its_input(self, mask: np.ndarray, rule: CleanUp) -> None:
        before = mask.copy()

        once = clean_up(mask, rule)

        np.testing.assert_array_equal(mask, before)
        if once is not None:
            assert clean_up(once, rule) is None
