from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import grey_closing, grey_dilation, grey_opening

from esp_medsam.transforms.line_morphology import (
    line_closings,
    line_openings,
    square_dilation,
    square_opening,
)


class TestLineMorphology:
    @pytest.mark.parametrize("length", [5, 9, 16])
    def test_the_first_two_directions_equal_scipy(self, length: int) -> None:
        image = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)

        closings, openings = list(line_closings(image, length)), list(line_openings(image, length))

        for index, footprint in enumerate((np.ones((1, length)), np.ones((length, 1)))):
            inside = (slice(length, -length), slice(length, -length))
            for ours, theirs in ((closings, grey_closing), (openings, grey_opening)):
                expected = theirs(image, footprint=footprint)
                np.testing.assert_array_equal(ours[index][inside], expected[inside])

    @pytest.mark.parametrize("side", [3, 5, 9])
    def test_squares_equal_scipy(self, side: int) -> None:
        image = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)

        np.testing.assert_array_equal(
            square_dilation(image, side), grey_dilation(image, (side, side), mode="nearest")
        )
        inside = (slice(side, -side), slice(side, -side))
        expected = grey_opening(image, (side, side))
        np.testing.assert_array_equal(square_opening(image, side)[inside], expected[inside])

    def test_closings_are_above_and_openings_below(self) -> None:
        image = np.random.default_rng(0).integers(0, 255, (20, 30), np.uint8)

        for closing, opening in zip(line_closings(image, 9), line_openings(image, 9), strict=True):
            assert (closing >= image).all()
            assert (opening <= image).all()
            np.testing.assert_array_equal(255 - opening, next_of(255 - image, opening, image))


def next_of(inverted: np.ndarray, opening: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return the closing of the inverted image that belongs to an opening of the image."""
    openings = list(line_openings(image, 9))
    place = next(i for i, other in enumerate(openings) if np.array_equal(other, opening))
    return list(line_closings(inverted, 9))[place]
