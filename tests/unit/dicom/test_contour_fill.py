from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import points_in_poly

from esp_medsam.dicom.contour_fill import inside


SHAPE = (9, 7)


def filled(*corners: tuple[float, float]) -> np.ndarray:
    return inside(np.array(corners, dtype=np.float64), SHAPE)


def box(low: float, high: float) -> list[tuple[float, float]]:
    return [(low, low), (high, low), (high, high), (low, high)]


def expected(columns: slice, rows: slice) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[columns, rows] = True
    return mask


class TestInside:
    @given(st.integers(0, 2**32 - 1), st.integers(3, 12))
    def test_is_as_a_convex_outline_says(self, seed: int, count: int) -> None:
        random = np.random.default_rng(seed)
        angles = np.sort(random.uniform(0, 2 * np.pi, count))
        corners = [4, 3] + random.uniform(0.5, 6) * np.stack([np.cos(angles), np.sin(angles)], 1)
        centers = np.argwhere(np.ones(SHAPE, bool))

        found = inside(corners, SHAPE)

        said = points_in_poly(centers, corners)  # type: ignore[no-untyped-call]  # scikit-image
        np.testing.assert_array_equal(found, said.reshape(SHAPE))

    def test_is_the_same_however_many_crossings_are_worked_out_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        corners = np.random.default_rng(5).uniform(-2, 10, (200, 2))
        whole = inside(corners, SHAPE)

        monkeypatch.setattr("esp_medsam.dicom.contour_fill._CROSSINGS", 7)

        np.testing.assert_array_equal(inside(corners, SHAPE), whole)

    @given(st.integers(0, 2**32 - 1), st.integers(3, 12))
    def test_is_the_same_from_any_corner_and_either_way(self, seed: int, count: int) -> None:
        corners = np.random.default_rng(seed).uniform(-2, 10, (count, 2)).round(1)

        found = inside(corners, SHAPE)

        np.testing.assert_array_equal(inside(np.roll(corners, 1, axis=0), SHAPE), found)
        np.testing.assert_array_equal(inside(corners[::-1], SHAPE), found)

    def test_takes_columns_before_rows(self) -> None:
        found = filled((0.5, 1.5), (6.5, 1.5), (6.5, 3.5), (0.5, 3.5))

        np.testing.assert_array_equal(found, expected(slice(1, 7), slice(2, 4)))

    def test_of_a_keyhole_is_not_its_hole(self) -> None:
        # Out along row 3, around the hole, and back the same way.
        keyhole = [(0.5, 3), *box(0.5, 5.5)[:1], *box(0.5, 5.5)[1:], (0.5, 3)]
        hole = [(2.5, 3), (2.5, 4.5), (4.5, 4.5), (4.5, 1.5), (2.5, 1.5), (2.5, 3)]

        found = filled(*keyhole, *hole)

        ring = inside(np.array(box(0.5, 5.5)), SHAPE) ^ inside(
            np.array([(2.5, 1.5), (4.5, 1.5), (4.5, 4.5), (2.5, 4.5)]), SHAPE
        )
        np.testing.assert_array_equal(found, ring)
        assert ring.sum() == 25 - 6

    @pytest.mark.parametrize("noise", [0.0, 1e-9, -1e-9])
    def test_of_a_contour_through_centers_keeps_its_area(self, noise: float) -> None:
        found = inside(np.array(box(1, 5)) + noise, SHAPE)

        np.testing.assert_array_equal(found, expected(slice(1, 5), slice(1, 5)))

    def test_of_contours_that_share_an_edge_share_no_pixel(self) -> None:
        left = filled((1, 1), (3, 1), (5, 5), (1, 5))
        right = filled((3, 1), (7, 1), (7, 5), (5, 5))

        assert not (left & right).any()
        np.testing.assert_array_equal(left | right, expected(slice(1, 7), slice(1, 5)))

    def test_leaves_out_what_lies_outside(self) -> None:
        np.testing.assert_array_equal(filled(*box(-20, 20)), np.ones(SHAPE, bool))
        assert not filled(*box(20, 30)).any()

    @pytest.mark.parametrize("count", [1, 2])
    def test_of_a_point_or_a_line_is_nothing(self, count: int) -> None:
        assert not filled(*box(1, 5)[::2][:count]).any()
