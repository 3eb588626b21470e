"""Even stacks whose positions are written with few digits."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from esp_medsam.dicom import DicomSlice, read_segmentation, stack_grid
from tests.support.dicom_volumes import slices_at


RAS = np.diag([-1.0, -1.0, 1.0])


UPRIGHT = np.eye(3)


def make_slices(positions: Any, axes: Any = UPRIGHT) -> list[DicomSlice]:
    return slices_at(positions, axes[:, :2].T.ravel(), rows=64, columns=64)


def even(gap: float, axes: Any, count: int) -> Any:
    return np.array([-12.3, 45.6, -78.9]) + np.arange(count)[:, None] * gap * axes[:, 2]


OBLIQUE = Rotation.from_euler("xyz", [9.6, -2, 1], degrees=True).as_matrix()


class TestRoundedPositions:
    @pytest.mark.parametrize("digits", [1, 2])
    @pytest.mark.parametrize("axes", [np.eye(3), OBLIQUE])
    @pytest.mark.parametrize("gap", [0.625, 1.25, 6.51])
    def test_have_the_affine_of_the_grid_that_they_were_rounded_from(
        self, gap: float, axes: Any, digits: int
    ) -> None:
        truth = even(gap, axes, 40)

        _, grid, _ = stack_grid(make_slices(truth.round(digits), axes))

        assert grid.affine is not None
        assert grid.stack_axis is None
        unit = 10.0**-digits
        np.testing.assert_allclose(grid.affine[:3, 3], RAS @ truth[0], atol=unit)
        np.testing.assert_allclose(np.linalg.norm(grid.affine[:3, 2]), gap, atol=unit / 20)

    def test_are_told_and_by_how_much_slices_are_off(self) -> None:
        truth = even(6.51, OBLIQUE, 22)

        _, grid, warnings = stack_grid(make_slices(truth.round(1), OBLIQUE))

        assert grid.affine is not None
        assert grid.slice_affines is not None
        even_grid = grid.affine[:3, 3] + np.arange(22)[:, None] * grid.affine[:3, 2]
        off = np.linalg.norm(grid.slice_affines[:, :3, 3] - even_grid, axis=1).max()
        (warning,) = warnings
        assert re.search(f"rounded to 0.1 mm; .* by up to {off:.3f} mm", warning)

    def test_are_known_as_float32_too(self) -> None:
        rounded = even(6.51, OBLIQUE, 22).round(1).astype(np.float32)

        _, grid, _ = stack_grid(make_slices(rounded, OBLIQUE))

        assert grid.affine is not None

    @settings(max_examples=25, deadline=None)
    @given(
        turn=st.tuples(*[st.floats(-0.4, 0.4)] * 3),
        gap=st.floats(0.6, 10),
        count=st.integers(30, 60),
        lost=st.integers(5, 20),
    )
    def test_do_not_hide_a_missing_slice(
        self, turn: tuple[float, float, float], gap: float, count: int, lost: int
    ) -> None:
        axes = Rotation.from_rotvec(turn).as_matrix()
        positions = np.delete(even(gap, axes, count).round(1), lost, axis=0)

        _, grid, _ = stack_grid(make_slices(positions, axes))

        assert grid.affine is None
        assert grid.stack_axis == 2

    @pytest.mark.parametrize(
        "positions",
        [
            [(0, 0, z) for z in (0, 2, 4.1, 6, 8, 10)],  # one slice moved by a whole digit
            [(0, 0, z) for z in (0, 2, 4, 6.2, 8.2, 10.2)],  # two blocks
            [(0, 0, z) for z in (0, 2, 5, 8, 10, 12, 15)],  # rounded to whole millimeters
            [(0, 0, z) for z in (0, 2.0003, 4.0507, 6.0511)],  # uneven, and not rounded
            [(0, round(0.1 * k, 1), 2 * k) for k in range(10)],  # a gantry tilt
            [(0, round(0.05 * k, 1), 2 * k) for k in range(10)],  # one of little more than a degree
        ],
    )
    def test_do_not_make_uneven_stacks_even(self, positions: Any) -> None:
        _, grid, _ = stack_grid(make_slices(positions))

        assert grid.affine is None

    def test_within_one_percent_stay_as_they_are(self) -> None:
        _, grid, warnings = stack_grid(make_slices([(0, 0, z) for z in (0, 10, 20.05, 30.05)]))

        assert grid.affine is not None
        np.testing.assert_allclose(grid.affine[:3, 3], 0)
        assert warnings == ()


class TestSegmentationOfRoundedPositions:
    @pytest.mark.parametrize("planes", [range(12), (2, 4), (1, 2, 9), (0, 11)])
    def test_lies_on_the_grid_of_its_source(
        self, dicom: Any, seg: SimpleNamespace, tmp_path: Any, planes: Any
    ) -> None:
        (tmp_path / "in").mkdir()
        cosines = OBLIQUE[:, :2].T.ravel().round(6).tolist()
        for k, position in enumerate(even(6.51, OBLIQUE, 12).round(1).tolist()):
            changes = {"ImagePositionPatient": position, "ImageOrientationPatient": cosines}
            dicom.save(dicom.dataset(k, **changes), tmp_path / "in" / f"{k}")
        image = seg.record(tmp_path / "in")
        masks = np.zeros((1, *image.grid.shape), np.uint8)
        masks[..., list(planes)] = 1

        read = read_segmentation(seg.saved(seg.made(image, masks), tmp_path / "seg"))

        assert read.grid.affine is not None
        held = np.ptp(list(planes)) + 1
        assert read.grid.shape == (*image.grid.shape[:2], held)
        np.testing.assert_array_equal(read.mask(1), masks[0, ..., min(planes) :][..., :held])
        expected = image.grid.affine @ (0, 0, min(planes), 1)
        np.testing.assert_allclose(read.grid.affine[:, 3], expected, atol=0.15)
        assert "rounded to 0.1 mm" in read.warnings[0]
