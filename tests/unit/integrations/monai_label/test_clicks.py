from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from esp_medsam.errors import OptionError
from esp_medsam.grid import Grid
from esp_medsam.inferers.prompted import Box, Click
from esp_medsam.integrations.monai_label.clicks import plane_along_third_axis, prompts_of


class TestPrompts:
    def test_of_a_volume_are_on_the_axes_of_its_file(self) -> None:
        sent = {"foreground": [[4, 5, 2]], "background": [[1, 0, 2]], "slice": 2, "label": "liver"}

        prompts = prompts_of(sent, of_picture=False)

        assert prompts.slice == 2
        assert prompts.given == (Click((4, 5, 2)), Click((1, 0, 2), is_inside=False))

    def test_of_a_picture_have_the_row_first(self) -> None:
        sent = {"foreground": [[4, 5, 0]], "background": [], "roi": [1, 8, 2, 9, 0, 0], "slice": 0}

        prompts = prompts_of(sent, of_picture=True)

        assert prompts.given == (Box((2, 1), (9, 8)), Click((5, 4)))

    def test_a_box_lies_in_the_slice_that_is_shown(self) -> None:
        prompts = prompts_of({"roi": [1, 8, 2, 9, 0, 30], "slice": 7}, of_picture=False)

        assert prompts.given == (Box((1, 2, 7), (8, 9, 7)),)

    @pytest.mark.parametrize(
        ("sent", "said"),
        [
            ({}, "at least one be given; got 0 slices"),
            ({"foreground": [], "background": None}, "got 0 slices"),
            ({"foreground": [[1, 1, 1], [1, 1, 2]]}, "in one slice, .* got 2 slices"),
            ({"foreground": [[1, 1, 1]], "roi": [1, 2, 1, 2, 0, 0], "slice": 3}, "got 2 slices"),
            ({"foreground": [[1, 1]]}, "foreground"),
            ({"foreground": [[1, 1, -1]]}, "foreground"),
            ({"foreground": "x"}, "foreground"),
            ({"roi": [1, 2]}, "roi"),
            ({"foreground": [[1, 1, 1]] * 1001}, "foreground"),
        ],
    )
    def test_that_are_not_clear_are_refused(self, sent: dict[str, Any], said: str) -> None:
        with pytest.raises(OptionError, match=said):
            prompts_of(sent, of_picture=False)


class TestPlane:
    @pytest.mark.parametrize(
        ("axes", "expected"),
        [((0, 1, 2), "axial"), ((2, 1, 0), "sagittal"), ((0, 2, 1), "coronal")],
    )
    def test_is_that_of_the_third_axis(self, axes: tuple[int, int, int], expected: str) -> None:
        affine = np.eye(4)
        affine[:3, :3] = np.diag([-2.0, 1.0, 3.0])[:, axes]

        assert plane_along_third_axis(Grid(shape=(4, 5, 6), affine=affine)) == expected

    def test_of_a_picture_is_none(self) -> None:
        assert plane_along_third_axis(Grid(shape=(4, 5))) is None
