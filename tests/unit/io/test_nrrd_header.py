from __future__ import annotations

import bz2
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esp_medsam.errors import FormatError, GeometryError
from esp_medsam.io.itk_image import read_itk


Write = Callable[..., Path]

STEPS = "(1,0,0) (0,2,0) (0,0,3)"
"""Space directions of the volume as it is written where a test says nothing."""


class TestGeometry:
    @pytest.mark.parametrize(
        ("space", "signs"),
        [("LPS", (-1, -1, 1)), ("RAS", (1, 1, 1)), ("left-anterior-superior", (-1, 1, 1))],
    )
    def test_spaces_of_the_patient_are_turned_exactly(
        self, write_nrrd: Write, space: str, signs: tuple[int, int, int]
    ) -> None:
        directions = "(0.1,0,0.3) (0,2,0) (-0.3,0,0.1)"

        content = read_itk(write_nrrd(space=space, space_directions=directions))

        stated = np.array([[0.1, 0, -0.3, 10], [0, 2, 0, 20], [0.3, 0, 0.1, 30]])
        np.testing.assert_array_equal(content.grid.affine[:3], np.array(signs)[:, None] * stated)

    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"space": None, "space_directions": None, "spacings": "1 2 3"}, "space directions"),
            ({"space_directions": None}, "space directions"),
            ({"space": "scanner-xyz"}, "in the patient"),
            ({"space_directions": "(1,0,0) (1,0,0) (0,0,3)"}, "singular"),
            ({"space_directions": "(1,0,0) (0,0,0) (0,0,3)"}, "no length"),
            ({"space_directions": "(1,0,0) (0,2,0)"}, "for each of 3 axes"),
            ({"space_directions": "(1,0,0) (0,nan,0) (0,0,3)"}, "finite numbers"),
            ({"space_directions": "(1,0,0) (0,1,5,0) (0,0,3)"}, "finite numbers"),
            ({"space_origin": "(inf,0,0)"}, "finite numbers"),
        ],
    )
    def test_refuses_unusable_directions(
        self, write_nrrd: Write, fields: dict[str, str | None], found: str
    ) -> None:
        with pytest.raises(GeometryError, match=rf"a\.nrrd must .*{found}"):
            read_itk(write_nrrd(**fields))


class TestAxes:
    @pytest.mark.parametrize("kind", ["list", "vector"])
    @pytest.mark.parametrize("first", [True, False])
    def test_a_list_holds_volumes_wherever_it_stands(
        self,
        series: np.ndarray,
        stated_affine: np.ndarray,
        write_nrrd: Write,
        kind: str,
        first: bool,
    ) -> None:
        array = np.ascontiguousarray(np.moveaxis(series, -1, 0)) if first else series
        directions, kinds = [STEPS], ["space space space"]
        directions.insert(0 if first else 1, "none")
        kinds.insert(0 if first else 1, kind)

        content = read_itk(
            write_nrrd(array, kinds=" ".join(kinds), space_directions=" ".join(directions)), 3
        )

        np.testing.assert_array_equal(content.pixels[0], series[..., 3])
        np.testing.assert_array_equal(content.grid.affine, stated_affine)

    @pytest.mark.parametrize(
        ("array", "fields", "found"),
        [
            (
                np.zeros((2, 3), np.int16),
                {"space_directions": "(1,0,0) (0,2,0)"},
                "three axes in space",
            ),
            (
                np.zeros((2, 3, 4, 5), np.int16),
                {"space_directions": f"{STEPS} (0,0,0)"},
                "three axes in space",
            ),
            (
                np.zeros((3, 2, 3, 4), np.uint8),
                {"kinds": "RGB-color space space space", "space_directions": f"none {STEPS}"},
                "got colors",
            ),
            (
                np.zeros((2, 3, 4, 5), np.int16),
                {"kinds": "space space space time", "space_directions": f"{STEPS} none"},
                "ITK reads",
            ),
        ],
    )
    def test_refuses_what_is_no_gray_volume(
        self, write_nrrd: Write, array: np.ndarray, fields: dict[str, str], found: str
    ) -> None:
        with pytest.raises(FormatError, match=found):
            read_itk(write_nrrd(array, **fields), frame=0)


class TestEncodings:
    @pytest.mark.parametrize(
        ("fields", "found"),
        [
            ({"encoding": "bzip2", "data": bz2.compress(bytes(48))}, "raw, gzip or text"),
            ({"encoding": "hex"}, "raw, gzip or text"),
            ({"type": "block", "block_size": "2"}, "real numbers"),
            ({"line_skip": "1"}, "right after its header"),
            ({"byte_skip": "-1"}, "right after its header"),
        ],
    )
    def test_refuses_what_itk_does_not_read(
        self, write_nrrd: Write, fields: dict[str, Any], found: str
    ) -> None:
        with pytest.raises(FormatError, match=found):
            read_itk(write_nrrd(**fields))
