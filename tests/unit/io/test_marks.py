from __future__ import annotations

import numpy as np
import pytest

from esp_medsam.io.marks import Sides, mark, sides_of
from esp_medsam.orientation import display_of


BLANK = np.full((300, 300, 3), 90, np.uint8)


class TestSidesOf:
    @pytest.mark.parametrize("turn", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
    @pytest.mark.parametrize(
        ("plane", "sides"),
        [
            ("axial", Sides("R", "L", "A", "P")),
            ("coronal", Sides("R", "L", "S", "I")),
            ("sagittal", Sides("A", "P", "S", "I")),
        ],
    )
    def test_are_a_radiologists_however_the_volume_is_stored(
        self, turn: tuple[int, ...], order: tuple[int, ...], plane: str, sides: Sides
    ) -> None:
        affine = np.eye(4)
        affine[:3, :3] = np.diag(turn)[:, order]

        assert sides_of(display_of((9, 9, 9), affine, plane), affine) == sides

    @pytest.mark.parametrize(
        ("degrees", "right"), [(0, "L"), (10, "L"), (30, "LP"), (-30, "LA"), (60, "PL")]
    )
    def test_name_all_sides_of_an_oblique_edge_the_closest_first(
        self, degrees: float, right: str
    ) -> None:
        cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        affine = np.array([[cos, sin, 0, 0], [sin, -cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        display = display_of((9, 9, 9), np.diag([1.0, -1, 1, 1]), "axial")

        assert sides_of(display, affine).right == right


class TestMark:
    @pytest.mark.parametrize(
        ("place", "part"),
        [
            (0, np.s_[130:170, :24]),
            (1, np.s_[130:170, -24:]),
            (2, np.s_[:28, 130:170]),
            (3, np.s_[-28:, 130:170]),
        ],
    )
    def test_each_letter_stands_at_its_side(self, place: int, part: tuple[slice, slice]) -> None:
        letters = Sides(*("R" if number == place else " " for number in range(4)))

        marked = mark(BLANK, sides=letters, mm_per_pixel=None, text_size=16)

        assert marked[part].max() == 255
        outside = marked.copy()
        outside[part] = 90
        assert (outside == 90).all()

    @pytest.mark.parametrize("mm_per_pixel", [0.005, 0.05, 0.3, 0.5, 1.0, 2.0])
    def test_bar_is_as_long_as_a_round_length(self, mm_per_pixel: float) -> None:
        marked = mark(BLANK, sides=None, mm_per_pixel=mm_per_pixel, text_size=16)

        row = (marked[300 - 16 - 2] == 255).all(axis=-1)
        millimeters = row.sum() * mm_per_pixel
        steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)
        nearest = min(steps, key=lambda step: abs(step - millimeters))
        assert millimeters == pytest.approx(nearest, abs=1.5 * mm_per_pixel)

    def test_nothing_is_drawn_where_nothing_is_known(self) -> None:
        assert (mark(BLANK, sides=None, mm_per_pixel=None, text_size=16) == BLANK).all()

    @pytest.mark.parametrize("shape", [(1, 1), (1, 640), (640, 3), (20, 640)])
    def test_flat_pictures_are_marked_or_left_alone(self, shape: tuple[int, int]) -> None:
        blank = np.full((*shape, 3), 90, np.uint8)

        marked = mark(blank, sides=Sides("R", "L", "S", "I"), mm_per_pixel=0.5, text_size=16)

        assert marked.shape == blank.shape
