from __future__ import annotations

import numpy as np
import pytest

from esp_medsam.io.contour import outline, resized


RED = (255, 0, 0)


def gray(level: int, side: int = 60) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)


def square(side: int = 60, low: int = 20, high: int = 40) -> np.ndarray:
    mask = np.zeros((side, side), bool)
    mask[low:high, low:high] = True
    return mask


def is_red(picture: np.ndarray) -> np.ndarray:
    return (picture == np.array(RED, np.uint8)).all(axis=-1)


class TestOutline:
    def test_line_lies_just_inside_the_mask_and_the_inside_is_the_image(self) -> None:
        drawn = outline(gray(100), [(square(), RED)])

        ring = square() & ~square(low=22, high=38)
        np.testing.assert_array_equal(is_red(drawn), ring)
        assert (drawn[24:36, 24:36] == 100).all()
        assert (drawn[:18] == 100).all()

    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_line_has_a_dark_edge_outside_that_shows_it_on_any_tissue(self, level: int) -> None:
        drawn = outline(gray(level), [(square(), RED)])

        assert drawn[19, 30].max() <= 80

    def test_image_given_is_left_alone(self) -> None:
        given = gray(100)

        outline(given, [(square(), RED)])

        assert (given == 100).all()

    def test_mask_is_not_closed_at_the_edge_of_the_image(self) -> None:
        drawn = outline(gray(100), [(np.ones((60, 60), bool), RED)])

        assert (drawn == 100).all()

    def test_mask_of_one_pixel_is_seen(self) -> None:
        drawn = outline(gray(100), [(square(low=30, high=31), RED)])

        assert is_red(drawn)[30, 30]

    def test_mask_much_finer_than_the_picture_is_seen(self) -> None:
        mask = np.zeros((6000, 6000), bool)
        mask[3000, 3000] = True

        assert (outline(gray(100), [(mask, RED)]) != 100).any()

    def test_touching_masks_do_not_hide_each_other(self) -> None:
        left, right = square(), np.roll(square(), 20, axis=1)

        drawn = outline(gray(100), [(left, RED), (right, (0, 255, 0))])

        assert is_red(drawn)[30, 39]
        assert drawn[30, 40].tolist() == [0, 255, 0]


class TestResized:
    @pytest.mark.parametrize("factor", [2, 5, 0.5])
    def test_keeps_the_area(self, factor: float) -> None:
        side = int(60 * factor)

        found = resized(square(), (side, side))

        assert found.sum() == pytest.approx(400 * factor**2, rel=0.05)
