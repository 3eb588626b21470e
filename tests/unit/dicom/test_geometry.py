from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_medsam.dicom import DicomSlice, stack_grid
from esp_medsam.errors import GeometryError
from tests.support.dicom_volumes import slices_at


Array = npt.NDArray[np.float64]

RAS = np.diag([-1.0, -1.0, 1.0])


def axial(*heights: float) -> list[DicomSlice]:
    return slices_at([(10, 20, height) for height in heights])


@st.composite
def rotations(draw: st.DrawFn) -> Array:
    """Any rotation, from a unit quaternion."""
    numbers = st.floats(-1, 1, allow_nan=False)
    parts = draw(
        st.tuples(numbers, numbers, numbers, numbers).filter(lambda q: sum(x * x for x in q) > 0.01)
    )
    w, x, y, z = np.array(parts) / math.sqrt(sum(x * x for x in parts))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def stacks(draw: st.DrawFn) -> tuple[list[DicomSlice], Array]:
    """A shuffled even stack in any orientation, and its rotation."""
    rotation = draw(rotations())
    count = draw(st.integers(2, 8))
    gap = draw(st.floats(0.2, 12))
    origin = np.array(draw(st.tuples(*[st.floats(-500, 500)] * 3)))
    spacing = (draw(st.floats(0.1, 4)), draw(st.floats(0.1, 4)))
    positions = [origin + k * gap * rotation[:, 2] for k in range(count)]
    slices = slices_at(positions, rotation[:, :2].T.ravel(), spacing)
    return draw(st.permutations(slices)), rotation


def patient_position(part: DicomSlice, column: int, row: int) -> Array:
    """Where a pixel lies by the standard's own formula: PS3.3 C.7.6.2.1.1, LPS."""
    assert part.position
    assert part.orientation
    assert part.pixel_spacing
    across, down = np.array(part.orientation).reshape(2, 3)
    return (
        np.array(part.position)
        + across * part.pixel_spacing[1] * column
        + down * part.pixel_spacing[0] * row
    )


class TestStackGrid:
    @settings(max_examples=25, deadline=None)
    @given(stack=stacks(), column=st.integers(0, 5), row=st.integers(0, 3))
    def test_affine_leads_to_where_each_header_says(
        self, stack: tuple[list[DicomSlice], Array], column: int, row: int
    ) -> None:
        slices, _ = stack

        ordered, grid, _ = stack_grid(slices)

        assert grid.affine is not None
        assert grid.slice_affines is not None
        for k, part in enumerate(ordered):
            expected = RAS @ patient_position(part, column, row)
            there = grid.affine @ (column, row, k, 1)
            np.testing.assert_allclose(there[:3], expected, atol=1e-3)
            alone = grid.slice_affines[k] @ (column, row, 0, 1)
            np.testing.assert_allclose(alone[:3], expected, atol=1e-6)

    @settings(max_examples=25, deadline=None)
    @given(stack=stacks())
    def test_order_follows_position_whatever_the_order_of_files(
        self, stack: tuple[list[DicomSlice], Array]
    ) -> None:
        slices, rotation = stack

        ordered, grid, warnings = stack_grid(slices)

        along = [float(np.array(part.position) @ rotation[:, 2]) for part in ordered]
        assert along == sorted(along)
        assert grid.slice_affines is not None
        np.testing.assert_allclose(
            grid.slice_affines[:, :3, 2], [RAS @ rotation[:, 2]] * len(slices), atol=1e-9
        )
        assert warnings == ()
        assert grid.stack_axis is None

    @pytest.mark.parametrize(("share", "is_told"), [(1e-4, False), (4e-3, True)])
    def test_gaps_that_add_up_off_the_even_grid_are_told(self, share: float, is_told: bool) -> None:
        gaps = [5 * (1 + share)] * 10 + [5 * (1 - share)] * 10
        heights = np.concatenate([[0.0], np.cumsum(gaps)])
        slices = slices_at([np.array([0, 0, z]) for z in heights], [1, 0, 0, 0, 1, 0], (1, 1))

        ordered, grid, warnings = stack_grid(slices)

        assert grid.affine is not None
        off = max(
            abs((grid.affine @ [0, 0, k, 1])[2] - part.position[2])
            for k, part in enumerate(ordered)
            if part.position is not None
        )
        assert off == pytest.approx(10 * 5 * share)
        if not is_told:
            assert (warnings, grid.rounding) == ((), 0.0)
            return
        (warning,) = warnings
        assert "up to 0.200 mm" in warning
        assert grid.rounding == pytest.approx(off)

    @settings(max_examples=25, deadline=None)
    @given(stack=stacks(), data=st.data())
    def test_a_missing_slice_takes_the_affine_and_nothing_else(
        self, stack: tuple[list[DicomSlice], Array], data: st.DataObject
    ) -> None:
        slices, _ = stack
        whole, _, _ = stack_grid(slices)
        if len(whole) < 4:
            return
        gone = data.draw(st.integers(1, len(whole) - 2))
        left = [part for part in slices if part != whole[gone]]

        ordered, grid, warnings = stack_grid(left)

        assert grid.affine is None
        assert grid.stack_axis == 2
        assert grid.slice_affines is not None
        for affine, part in zip(grid.slice_affines, ordered, strict=True):
            np.testing.assert_allclose(affine[:3, 3], RAS @ np.array(part.position), atol=1e-9)
        assert whole[gone - 1].source.path in warnings[0]
        assert whole[gone + 1].source.path in warnings[0]

    @settings(max_examples=25, deadline=None)
    @given(rotation=rotations(), degrees=st.floats(0.5, 30))
    def test_a_tilted_stack_has_no_affine(self, rotation: Array, degrees: float) -> None:
        tilt = math.radians(degrees)
        step = 2 * (math.cos(tilt) * rotation[:, 2] + math.sin(tilt) * rotation[:, 1])
        slices = slices_at([k * step for k in range(6)], rotation[:, :2].T.ravel())

        _, grid, warnings = stack_grid(slices)

        assert grid.affine is None
        assert grid.stack_axis == 2
        told = re.search(r"tilt, ([0-9.]+) degrees", warnings[0])
        assert told is not None
        assert float(told[1]) == pytest.approx(degrees, abs=0.05 + 1e-6)  # told to a tenth

    def test_gaps_within_one_percent_are_even(self) -> None:
        _, grid, _ = stack_grid(axial(0, 2, 4.01, 6))

        assert grid.affine is not None
        np.testing.assert_allclose(grid.affine[:3, 2], (0, 0, 2))

    def test_gaps_beyond_one_percent_are_not(self) -> None:
        _, grid, warnings = stack_grid(axial(0, 2, 4.05, 6.05))

        assert grid.affine is None
        assert "2.050 mm between 1.dcm and 2.dcm, 2.000 mm elsewhere" in warnings[0]

    def test_small_errors_that_add_up_are_not_even(self) -> None:
        heights = np.cumsum([0] + [1.0] * 60 + [1.009] * 60)

        _, grid, warnings = stack_grid(axial(*heights))

        assert grid.affine is None
        assert "drift" in warnings[0]

    def test_positions_of_few_digits_are_no_tilt(self) -> None:
        slices = slices_at([(10.001 * (k % 2) + 10 * ((k + 1) % 2), 20, k) for k in range(5)])

        _, grid, _ = stack_grid(slices)

        assert grid.affine is not None
        assert grid.affine[:3, 2].tolist() == [0, 0, 1]

    def test_flipped_orientation_is_ordered_along_its_own_normal(self) -> None:
        slices = slices_at([(0, 0, z) for z in (0, 3, 6)], (1, 0, 0, 0, -1, 0))

        ordered, grid, _ = stack_grid(slices)

        assert [part.position[2] for part in ordered if part.position] == [6, 3, 0]
        assert grid.affine is not None
        assert grid.affine[:3, 2].tolist() == [0, 0, -3]

    def test_a_lone_slice_takes_its_depth_from_its_thickness(self) -> None:
        _, grid, warnings = stack_grid(axial(5))

        assert grid.affine is not None
        assert grid.affine[:3, 2].tolist() == [0, 0, 3]
        assert "SliceThickness, 3 mm" in warnings[0]

    def test_a_lone_slice_without_thickness_is_taken_as_one_millimeter(self) -> None:
        slices = [replace(part, thickness=None) for part in axial(5)]

        _, grid, warnings = stack_grid(slices)

        assert grid.affine is not None
        assert grid.affine[:3, 2].tolist() == [0, 0, 1]
        assert "taken as 1 mm" in warnings[0]

    def test_two_slices_at_one_place_are_refused_by_name(self) -> None:
        with pytest.raises(GeometryError, match=r"1\.dcm and 2\.dcm lie"):
            stack_grid(axial(0, 2, 2, 4))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"rows": 5}, r"one matrix; got 4 x 6 in 0\.dcm and 5 x 6 in 1\.dcm"),
            ({"pixel_spacing": (0.5, 0.8)}, "one PixelSpacing"),
            ({"orientation": (0.9995, 0.03, 0, -0.03, 0.9995, 0)}, "one orientation"),
            ({"position": None}, r"1\.dcm must state ImagePositionPatient"),
            ({"orientation": None}, r"1\.dcm must state ImageOrientationPatient"),
            ({"pixel_spacing": None}, r"1\.dcm must state PixelSpacing"),
            ({"pixel_spacing": (0.0, 1.0)}, "must be positive"),
            ({"position": (0, math.nan, 0)}, "must be finite"),
            ({"position": (0, 1e300, 0)}, "must be finite"),
            ({"orientation": (1, 0, 0, 1, 0, 0)}, "at right angles"),
            ({"orientation": (0, 0, 0, 0, 0, 0)}, "unit vectors"),
        ],
    )
    def test_slices_that_are_no_stack_are_refused(
        self, change: dict[str, object], message: str
    ) -> None:
        first, second = axial(0, 2)

        with pytest.raises(GeometryError, match=message):
            stack_grid([first, replace(second, **change)])  # type: ignore[arg-type]

    def test_slices_turned_a_little_lie_each_at_its_own_position(self) -> None:
        slices = axial(0, 2, 4)
        angle = 0.0005
        turned = (math.cos(angle), math.sin(angle), 0, -math.sin(angle), math.cos(angle), 0)

        ordered, grid, warnings = stack_grid([replace(slices[0], orientation=turned), *slices[1:]])

        assert grid.affine is None
        assert grid.stack_axis == 2
        assert grid.slice_affines is not None
        for k, part in enumerate(ordered):
            there = grid.slice_affines[k] @ (5, 3, 0, 1)
            np.testing.assert_allclose(there[:3], RAS @ patient_position(part, 5, 3), atol=1e-6)
        (warning,) = warnings
        assert "differ in orientation (by 0.029 degrees)" in warning

    def test_slices_scaled_a_little_lie_each_at_its_own_position(self) -> None:
        slices = axial(0, 2, 4)

        _, grid, warnings = stack_grid(
            [*slices[:2], replace(slices[2], pixel_spacing=(0.501, 0.75))]
        )

        assert grid.affine is None
        assert grid.slice_affines is not None
        assert np.linalg.norm(grid.slice_affines[2][:3, 1]) == pytest.approx(0.501)
        assert "differ in PixelSpacing (by 0.2 %)" in warnings[0]

    def test_slices_that_cross_are_refused(self) -> None:
        first, second = (replace(part, columns=600) for part in axial(0, 2))
        leaning = (math.cos(0.01), 0, -math.sin(0.01), 0, 1, 0)

        with pytest.raises(GeometryError, match=r"0\.dcm and 1\.dcm cross"):
            stack_grid([first, replace(second, orientation=leaning)])

    def test_skewed_rows_and_columns_have_no_affine(self) -> None:
        slices = slices_at([(0, 0, z) for z in (0, 3, 6)], (1, 0, 0, 0.001, 1, 0))

        _, grid, warnings = stack_grid(slices)

        assert grid.affine is None
        assert "right angles" in warnings[0]
