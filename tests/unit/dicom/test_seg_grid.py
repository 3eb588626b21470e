from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esp_medsam.dicom.seg_grid import GRID_TOLERANCE, masks_on_grid
from esp_medsam.errors import GeometryError
from esp_medsam.image import Image


AFFINE = np.array([[-0.5, 0, 0.1, 9], [0, -0.7, 0.2, 8], [0.05, 0.1, 2.5, -7], [0, 0, 0, 1]])


def stack(places: tuple[float, ...] = (0, 1, 2)) -> Image:
    """The record of a stack of slices at these multiples of a step."""
    affines = np.repeat(AFFINE[None], len(places), axis=0)
    affines[:, :3, 3] += np.outer(places, AFFINE[:3, 2])
    affines[:, :3, 2] /= np.linalg.norm(AFFINE[:3, 2])
    return Image(
        path="series",
        name="1.2.3",
        modality="ct",
        spatial_shape=(4, 5, len(places)),
        slice_affines=affines,
    )


def masks(count: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (count, 4, 5, 3)).astype(np.uint8)


class TestMasksOnGrid:
    def test_that_are_on_it_come_back_as_they_are(self) -> None:
        given = masks()

        np.testing.assert_array_equal(masks_on_grid(given, AFFINE, stack()), given)

    @settings(max_examples=40, deadline=None)
    @given(axes=st.permutations([0, 1, 2]), flips=st.tuples(*[st.sampled_from([1, -1])] * 3))
    def test_that_another_tool_turned_and_flipped_are_turned_back(
        self, axes: list[int], flips: tuple[int, int, int]
    ) -> None:
        original = masks()
        turn = np.column_stack([axes, flips])
        turned = np.stack([nib.orientations.apply_orientation(m, turn) for m in original])
        affine = AFFINE @ nib.orientations.inv_ornt_aff(turn, (4, 5, 3))

        found = masks_on_grid(turned, affine.astype(np.float32).astype(float), stack())

        np.testing.assert_array_equal(found, original)

    def test_are_matched_slice_by_slice_where_slices_are_missing(self) -> None:
        whole = masks()
        whole[..., 1] = 0

        found = masks_on_grid(whole, AFFINE, stack((0, 2)))

        np.testing.assert_array_equal(found, whole[..., [0, 2]])

    def test_that_were_cropped_are_empty_outside(self) -> None:
        original = masks()
        affine = AFFINE.copy()
        affine[:3, 3] = (AFFINE @ [1, 2, 1, 1])[:3]

        found = masks_on_grid(original[:, 1:, 2:, 1:], affine, stack())

        expected = np.zeros_like(original)
        expected[:, 1:, 2:, 1:] = original[:, 1:, 2:, 1:]
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("factor", [1.01, 0.5])
    def test_of_another_spacing_are_refused(self, factor: float) -> None:
        affine = AFFINE @ np.diag([factor, 1, 1, 1])

        with pytest.raises(GeometryError, match=r"within 0\.02 voxels; it is off by"):
            masks_on_grid(masks(), affine, stack())

    def test_off_by_more_than_the_tolerance_are_refused(self) -> None:
        def shifted(by: float) -> np.ndarray:
            affine = AFFINE.copy()
            affine[:3, 3] += by * AFFINE[:3, 1]
            return masks_on_grid(masks(), affine, stack())

        np.testing.assert_array_equal(shifted(0.9 * GRID_TOLERANCE), masks())
        with pytest.raises(GeometryError, match=r"off by 0\.022"):
            shifted(1.1 * GRID_TOLERANCE)

    def test_off_by_what_positions_are_rounded_by_are_taken(self) -> None:
        affine = AFFINE.copy()
        affine[:3, 3] += 0.1

        found = masks_on_grid(masks(), affine, stack(), rounding=0.1 * 3**0.5)

        np.testing.assert_array_equal(found, masks())

    def test_with_anything_outside_the_image_are_refused(self) -> None:
        whole = np.ones((1, 4, 5, 3), np.uint8)

        with pytest.raises(GeometryError, match="20 voxels of it lie where the image has none"):
            masks_on_grid(whole, AFFINE, stack((0, 2)))

    def test_of_an_image_without_positions_are_refused(self) -> None:
        with pytest.raises(GeometryError, match="must state positions"):
            masks_on_grid(masks(), AFFINE, replace(stack(), slice_affines=None))

    def test_without_a_usable_affine_are_refused(self) -> None:
        with pytest.raises(GeometryError, match="can be inverted"):
            masks_on_grid(masks(), np.zeros((4, 4)), stack())
