from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_medsam.errors import GeometryError, OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.orientation import (
    PLANES,
    closest_world_axes,
    display_of,
    display_of_image,
    nearly_otherwise,
)


# Where a marked voxel at a patient's corner appears: (row at the far end, column at the far end).
FEET, LEFT, POSTERIOR = -1, -1, -1


@st.composite
def grids(draw: st.DrawFn) -> tuple[tuple[int, ...], np.ndarray]:
    """A volume's shape and affine: any axis order, flips and spacing, tilted up to 30 degrees."""
    shape = tuple(draw(st.lists(st.integers(2, 7), min_size=3, max_size=3)))
    order = draw(st.permutations(range(3)))
    signs = draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=3, max_size=3))
    spacing = draw(st.lists(st.floats(0.2, 8.0), min_size=3, max_size=3))
    angle = np.deg2rad(draw(st.floats(-30, 30)))
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.eye(3)[:, order] @ np.diag(np.multiply(signs, spacing))
    affine[:3, 3] = draw(st.lists(st.floats(-100, 100), min_size=3, max_size=3))
    return shape, affine


class TestDisplay:
    @given(grids(), st.sampled_from([None, *sorted(PLANES)]))
    def test_putting_back_what_is_shown_changes_nothing(
        self, grid: tuple[tuple[int, ...], np.ndarray], plane: str | None
    ) -> None:
        shape, affine = grid
        volume = torch.arange(2 * np.prod(shape)).reshape(2, *shape)
        display = display_of(shape, affine, plane)
        result = torch.zeros_like(volume)

        for index in range(display.count(shape)):
            display.put(result, index, display.show(volume, index))

        assert torch.equal(result, volume)

    @given(grids(), st.sampled_from(sorted(PLANES)))
    def test_rows_and_columns_run_as_a_radiologist_expects(
        self, grid: tuple[tuple[int, ...], np.ndarray], plane: str
    ) -> None:
        """Axial: down is posterior, right is patient left; coronal: feet, left; sagittal: feet,
        posterior."""
        shape, affine = grid
        indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
        world = np.einsum("wa,axyz->wxyz", affine[:3, :3], indices)

        shown = display_of(shape, affine, plane).show(world, 0)

        down = shown[:, 1, 0] - shown[:, 0, 0]
        right = shown[:, 0, 1] - shown[:, 0, 0]
        rows, columns = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}[plane]
        assert down[rows] < 0
        assert right[columns] < 0

    @pytest.mark.parametrize("order", list(permutations(range(3))))
    @pytest.mark.parametrize("signs", list(product([-1, 1], repeat=3)))
    def test_left_never_swaps_with_right(
        self, order: tuple[int, int, int], signs: tuple[int, int, int]
    ) -> None:
        """The patient's upper left front voxel is at the upper right of every axial slice."""
        affine = np.eye(4)
        affine[:3, :3] = np.eye(3)[:, list(order)] * np.array(signs)
        volume = np.zeros((1, 4, 5, 6), np.uint8)
        corner = [0, 0, 0]
        for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
            wanted = {0: -1, 1: 1, 2: 1}[world]  # left, anterior, superior
            corner[axis] = volume.shape[axis + 1] - 1 if sign == wanted else 0
        volume[(0, *corner)] = 1

        display = display_of(volume.shape[1:], affine, "axial")

        top = max(
            range(display.count(volume.shape[1:])), key=lambda i: display.show(volume, i).sum()
        )
        shown = display.show(volume, top)
        assert shown[0, 0, -1] == 1

    def test_photograph_is_shown_as_stored(self) -> None:
        photograph = np.arange(12).reshape(1, 3, 4)

        shown = display_of((3, 4), None).show(photograph, 0)

        np.testing.assert_array_equal(shown, photograph)

    def test_values_per_axis_follow_the_transpose(self) -> None:
        display = display_of((5, 6, 7), np.diag([1.0, 2.0, 3.0, 1.0]), "axial")

        assert display.shown((1.0, 2.0, 3.0)) == (2.0, 1.0)


class TestSliceAxis:
    @pytest.mark.parametrize(
        ("shape", "spacing", "axis"),
        [
            ((64, 64, 20), (0.7, 0.7, 5.0), 2),  # thick axial slices
            ((20, 64, 64), (5.0, 0.7, 0.7), 0),  # thick sagittal slices
            ((64, 20, 64), (1.0, 1.6, 1.0), 1),
            ((64, 20, 64), (1.0, 1.4, 1.0), 2),  # nearly isotropic: head-foot
            ((64, 64, 64), (1.04, 1.0, 1.0), 2),
            ((64, 64, 64), (0.5, 1.0, 1.0), 0),  # one finer than two equal ones
            ((64, 64, 64), (1.0, 2.0, 3.0), 2),  # a tie: the coarser
            ((1, 64, 64), (1.0, 1.0, 5.0), 0),  # an axis of length 1 comes first
        ],
    )
    def test_rule(self, shape: tuple[int, ...], spacing: tuple[float, ...], axis: int) -> None:
        assert display_of(shape, np.diag([*spacing, 1.0])).slice_axis == axis

    @pytest.mark.parametrize(
        ("spacing", "axis"), [((0.5, 1.0, 1.1), 2), ((3.0, 0.5, 0.5), 2), ((1.4, 1.0, 1.0), 1)]
    )
    def test_anisotropic_stack_is_sliced_along_itself(
        self, spacing: tuple[float, ...], axis: int
    ) -> None:
        affine = np.eye(4)  # its last axis runs to anterior
        affine[:3, :3] = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]]) @ np.diag(spacing)

        assert display_of((9, 9, 9), affine, acquired_axis=2).slice_axis == axis

    @settings(max_examples=300)
    @given(st.lists(st.floats(0.3, 6.0), min_size=3, max_size=3))
    def test_no_small_change_of_spacing_turns_the_slices_without_a_word(
        self, spacing: list[float]
    ) -> None:
        def record(spacing: list[float]) -> Image:
            return Image(
                path="a",
                name="a",
                modality="ct",
                grid=Grid(shape=(9, 9, 9), affine=np.diag([*spacing, 1.0])),
            )

        axis = display_of_image(record(spacing)).slice_axis
        for changed in range(3):
            other = [s * (1.02 if k == changed else 1) for k, s in enumerate(spacing)]
            if display_of_image(record(other)).slice_axis != axis:
                assert "almost as good" in (nearly_otherwise(record(spacing)) or "")

    def test_says_which_planes_were_near(self) -> None:
        image = Image(
            path="a",
            name="a",
            modality="ct",
            grid=Grid(shape=(9, 9, 9), affine=np.diag([1.52, 1.0, 1.0, 1.0])),
        )

        assert nearly_otherwise(image) == (
            "The volume was cut into sagittal slices; with its spacing, 1.52 x 1 x 1 mm, axial "
            "ones are almost as good. Set slice_axis to choose."
        )

    @pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (1.2, 1.0, 1.0)])
    def test_says_nothing_where_there_is_no_doubt(self, spacing: tuple[float, ...]) -> None:
        image = Image(
            path="a",
            name="a",
            modality="ct",
            grid=Grid(shape=(9, 9, 9), affine=np.diag([*spacing, 1.0])),
        )

        assert nearly_otherwise(image) is None

    def test_isotropic_volume_is_sliced_from_head_to_foot_whatever_the_axis_order(self) -> None:
        affine = np.eye(4)[:, [2, 0, 1, 3]]

        assert display_of((9, 9, 9), affine).slice_axis == 0

    @pytest.mark.parametrize(("plane", "axis"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
    def test_plane_overrides_the_rule(self, plane: str, axis: int) -> None:
        assert display_of((9, 9, 9), np.diag([1.0, 1.0, 5.0, 1.0]), plane).slice_axis == axis

    def test_unknown_plane_is_refused(self) -> None:
        with pytest.raises(OptionError, match="axial, coronal, sagittal; got 'oblique'"):
            display_of((9, 9, 9), np.eye(4), "oblique")

    def test_volume_without_geometry_is_refused(self) -> None:
        with pytest.raises(GeometryError, match="got no affine"):
            display_of((9, 9, 9), None)

    def test_singular_affine_is_refused(self) -> None:
        with pytest.raises(GeometryError, match="three independent directions"):
            closest_world_axes(np.diag([1.0, 1.0, 0.0, 1.0]))
