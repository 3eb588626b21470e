from __future__ import annotations

import numpy as np
import pytest

from esp_medsam.io.tile import gray_to_rgb, mark, overlay, scaled, scaled_labels
from esp_medsam.modality import ModalityTable


GRAY = (100, 100, 100)


class TestOverlay:
    def test_contour_has_the_color_of_the_table_and_the_inside_shows_the_image(
        self, table: ModalityTable
    ) -> None:
        (target,) = table["fundus"].targets
        labels = np.zeros((17, 17), np.uint8)
        labels[3:14, 3:14] = target.label

        drawn = overlay(np.full((17, 17, 3), 100, np.uint8), labels, [target])

        assert tuple(drawn[3, 8]) == tuple(drawn[4, 8]) == target.color
        assert tuple(drawn[0, 0]) == GRAY
        inside = np.abs(drawn[8, 8].astype(int) - 100).max()
        assert 0 < inside < 0.25 * np.abs(np.array(target.color) - 100).max()

    def test_a_mask_at_the_edge_of_the_image_is_not_closed_there(
        self, table: ModalityTable
    ) -> None:
        (target,) = table["fundus"].targets
        labels = np.full((20, 20), target.label, np.uint8)

        drawn = overlay(np.full((20, 20, 3), 100, np.uint8), labels, [target])

        assert (drawn == drawn[0, 0]).all()

    def test_a_mask_of_one_pixel_is_seen(self, table: ModalityTable) -> None:
        (target,) = table["fundus"].targets
        labels = np.zeros((9, 9), np.uint8)
        labels[4, 4] = target.label

        drawn = overlay(np.zeros((9, 9, 3), np.uint8), labels, [target])

        assert tuple(drawn[4, 4]) == target.color


class TestMark:
    @pytest.mark.parametrize(
        ("place", "part"),
        [
            (0, np.s_[130:170, :20]),
            (1, np.s_[130:170, -20:]),
            (2, np.s_[:24, 130:170]),
            (3, np.s_[-24:, 130:170]),
        ],
    )
    def test_each_letter_stands_at_its_side(self, place: int, part: tuple[slice, slice]) -> None:
        blank = np.full((300, 300, 3), 90, np.uint8)
        letters = "".join("R" if number == place else " " for number in range(4))

        marked = mark(blank, sides=letters, mm_per_pixel=None)

        assert marked[part].max() == 255
        outside = marked.copy()
        outside[part] = 90
        assert (outside == 90).all()

    @pytest.mark.parametrize("mm_per_pixel", [0.05, 0.3, 0.5, 1.0, 2.0])
    def test_bar_is_as_long_as_a_round_length(self, mm_per_pixel: float) -> None:
        blank = np.full((300, 300, 3), 90, np.uint8)

        marked = mark(blank, sides=None, mm_per_pixel=mm_per_pixel)

        row = (marked[300 - 12 - 2] == 255).all(axis=-1)
        millimeters = row.sum() * mm_per_pixel
        nearest = min((1, 2, 5, 10, 20, 50, 100, 200), key=lambda step: abs(step - millimeters))
        assert millimeters == pytest.approx(nearest, abs=1.5 * mm_per_pixel)

    def test_nothing_is_drawn_where_nothing_is_known(self) -> None:
        blank = np.full((30, 30, 3), 90, np.uint8)

        assert (mark(blank, sides=None, mm_per_pixel=None) == blank).all()


class TestScaling:
    def test_labels_are_never_mixed(self) -> None:
        labels = np.array([[0, 6], [6, 0]], np.uint8)

        assert set(np.unique(scaled_labels(labels, (37, 41)))) == {0, 6}

    def test_size_is_width_and_height(self) -> None:
        assert scaled(np.zeros((4, 6, 3), np.uint8), (12, 8)).shape == (8, 12, 3)

    def test_limits_are_black_and_white(self) -> None:
        values = np.array([[[-200, -160, 40, 240, 900]]], np.int16)

        assert gray_to_rgb(values, (-160.0, 240.0))[0, :, 0].tolist() == [0, 0, 128, 255, 255]
