from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_medsam.errors import GeometryError
from esp_medsam.grid import GRID_TOLERANCE, Grid


AFFINE = np.array([[-0.5, 0, 0.1, 9], [0, -0.7, 0.2, 8], [0.05, 0.1, 2.5, -7], [0, 0, 0, 1]])


def stack(places: tuple[float, ...] = (0, 1, 2)) -> Grid:
    """The grid of a stack of slices at these multiples of a step."""
    affines = np.repeat(AFFINE[None], len(places), axis=0)
    affines[:, :3, 3] += np.outer(places, AFFINE[:3, 2])
    affines[:, :3, 2] /= np.linalg.norm(AFFINE[:3, 2])
    return Grid(shape=(4, 5, len(places)), slice_affines=affines)


def masks(count: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (count, 4, 5, 3)).astype(np.uint8)


class TestMasksTakenOnAGrid:
    def test_that_are_on_it_come_back_as_they_are(self) -> None:
        given = masks()

        np.testing.assert_array_equal(stack().take(given, AFFINE, what="series"), given)

    @settings(max_examples=40, deadline=None)
    @given(axes=st.permutations([0, 1, 2]), flips=st.tuples(*[st.sampled_from([1, -1])] * 3))
    def test_that_another_tool_turned_and_flipped_are_turned_back(
        self, axes: list[int], flips: tuple[int, int, int]
    ) -> None:
        original = masks()
        turn = np.column_stack([axes, flips])
        turned = np.stack([nib.orientations.apply_orientation(m, turn) for m in original])
        affine = AFFINE @ nib.orientations.inv_ornt_aff(turn, (4, 5, 3))

        found = stack().take(turned, affine.astype(np.float32).astype(float), what="series")

        np.testing.assert_array_equal(found, original)

    def test_are_matched_slice_by_slice_where_slices_are_missing(self) -> None:
        whole = masks()
        whole[..., 1] = 0

        found = stack((0, 2)).take(whole, AFFINE, what="series")

        np.testing.assert_array_equal(found, whole[..., [0, 2]])

    def test_that_were_cropped_are_empty_outside(self) -> None:
        original = masks()
        affine = AFFINE.copy()
        affine[:3, 3] = (AFFINE @ [1, 2, 1, 1])[:3]

        found = stack().take(original[:, 1:, 2:, 1:], affine, what="series")

        expected = np.zeros_like(original)
        expected[:, 1:, 2:, 1:] = original[:, 1:, 2:, 1:]
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("factor", [1.01, 0.5])
    def test_of_another_spacing_are_refused(self, factor: float) -> None:
        affine = AFFINE @ np.diag([factor, 1, 1, 1])

        with pytest.raises(GeometryError, match=r"within 0\.02 voxels; it is off by"):
            stack().take(masks(), affine, what="series")

    def test_off_by_more_than_the_tolerance_are_refused(self) -> None:
        def shifted(by: float) -> np.ndarray:
            affine = AFFINE.copy()
            affine[:3, 3] += by * AFFINE[:3, 1]
            return stack().take(masks(), affine, what="series")

        np.testing.assert_array_equal(shifted(0.9 * GRID_TOLERANCE), masks())
        with pytest.raises(GeometryError, match=r"off by 0\.022"):
            shifted(1.1 * GRID_TOLERANCE)

    def test_off_by_what_positions_are_rounded_by_are_taken(self) -> None:
        affine = AFFINE.copy()
        affine[:3, 3] += 0.1

        found = stack().take(masks(), affine, what="series", rounding=0.1 * 3**0.5)

        np.testing.assert_array_equal(found, masks())

    def test_with_anything_outside_the_image_are_refused(self) -> None:
        whole = np.ones((1, 4, 5, 3), np.uint8)

        with pytest.raises(GeometryError, match=r"20 voxels of it lie.*the image"):
            stack((0, 2)).take(whole, AFFINE, what="series")

    def test_of_an_image_without_positions_are_refused(self) -> None:
        with pytest.raises(GeometryError, match="must state positions"):
            replace(stack(), slice_affines=None).take(masks(), AFFINE, what="series")

    def test_without_a_usable_affine_are_refused(self) -> None:
        with pytest.raises(GeometryError, match="can be inverted"):
            stack().take(masks(), np.zeros((4, 4)), what="series")


class TestSpacing:
    def test_is_the_length_of_a_step_along_each_array_axis(self) -> None:
        affine = np.array([[0, 0, 3, 0], [0.6, 0, 0, 0], [0.8, 2, 0, 0], [0, 0, 0, 1]], dtype=float)

        assert Grid(shape=(4, 5, 6), affine=affine).spacing == (1, 2, 3)

    def test_is_none_without_an_affine(self) -> None:
        assert Grid(shape=(4, 5)).spacing is None


POSITIONED = np.tile(np.eye(4), (3, 1, 1))


class TestPlanes:
    @pytest.mark.parametrize(
        "grid",
        [
            Grid(shape=(4, 5, 3), slice_affines=POSITIONED),
            Grid(shape=(5, 4, 3), stack_axis=2),
            Grid(shape=(5, 4)),
        ],
    )
    def test_come_back_as_their_file_holds_them(self, grid: Grid) -> None:
        planes = np.arange(grid.count * 20).reshape(grid.count, 5, 4)

        array = grid.from_planes(planes)

        assert array.shape == grid.shape
        assert np.shares_memory(array, planes)
        assert grid.plane_size == (5, 4)
        for index, plane in enumerate(planes):
            np.testing.assert_array_equal(grid.plane(array, index), plane)

    def test_keep_their_channels(self) -> None:
        planes = np.arange(3 * 5 * 4 * 2).reshape(3, 5, 4, 2)

        array = Grid(shape=(4, 5, 3), slice_affines=POSITIONED).from_planes(planes)

        np.testing.assert_array_equal(array[1, 2, 0], planes[0, 2, 1])


class TestPositionsAlong:
    def test_are_of_the_sliced_axis_in_mm(self) -> None:
        turned = np.array([[0, 0, 5.0, 7], [2.0, 0, 0, 7], [0, 3.0, 0, 7], [0, 0, 0, 1]])
        grid = Grid(shape=(4, 4, 3), affine=turned)

        positions = [grid.positions_along(axis) for axis in range(3)]

        assert [p.tolist() for p in positions if p is not None] == [
            [0, 2, 4, 6],
            [0, 3, 6, 9],
            [0, 5, 10],
        ]

    def test_are_those_of_unevenly_stacked_slices(self) -> None:
        affines = POSITIONED.copy()
        affines[:, 2, 3] = [10.0, 12.0, 40.0]

        positions = Grid(shape=(4, 4, 3), slice_affines=affines, stack_axis=2).positions_along(2)

        assert positions is not None
        assert np.diff(positions).tolist() == [2.0, 28.0]

    def test_are_none_of_pictures_and_of_frames_in_time(self) -> None:
        assert Grid(shape=(4, 4)).positions_along(None) is None
        assert Grid(shape=(4, 4, 3), stack_axis=2).positions_along(2) is None


class TestCleanedMl:
    def test_is_known_of_evenly_stacked_slices_alone(self) -> None:
        even = Grid(shape=(4, 5, 3), affine=np.diag([1.0, 2.0, 5.0, 1.0]))

        assert even.cleaned_ml == even.voxel_ml == pytest.approx(0.01)
        assert replace(even, shape=(4, 5, 1)).cleaned_ml is None
        assert replace(even, affine=None).cleaned_ml is None
        assert Grid(shape=(4, 5)).cleaned_ml is None
