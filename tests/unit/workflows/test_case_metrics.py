from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.workflows.case_metrics import Distances, distances, overlap, scale_of


Bools = npt.NDArray[np.bool_]


def surface_points(mask: Bools, spacing: tuple[float, ...], unknown: Bools) -> npt.NDArray[Any]:
    """Return where voxels of a mask have a neighbor outside it, or none, one by one in a loop."""
    points = []
    for place in np.argwhere(mask & ~unknown):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            beside = place.copy()
            beside[axis] += step
            inside = 0 <= beside[axis] < mask.shape[axis]
            if not inside or not (mask[tuple(beside)] or unknown[tuple(beside)]):
                points.append(place * np.array(spacing))
                break
    return np.array(points).reshape(-1, mask.ndim)


def reference(
    found: Bools,
    truth: Bools,
    spacing: tuple[float, ...],
    tolerance: float,
    unknown: Bools | None = None,
) -> tuple[float, float, float]:
    """Return surface Dice, HD95 and HD from the table of all distances between both surfaces."""
    hidden = np.zeros_like(found) if unknown is None else unknown
    one, other = (surface_points(mask, spacing, hidden) for mask in (found, truth))
    table = np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1))
    ways = table.min(1), table.min(0)
    near = sum((way <= tolerance).sum() for way in ways) / sum(map(len, ways))
    return near, max(np.percentile(way, 95) for way in ways), max(way.max() for way in ways)


def blobs(shape: tuple[int, ...], seed: int) -> tuple[Bools, Bools]:
    """Return two masks of boxes, partly the same."""
    rng = np.random.default_rng(seed)
    masks = [np.zeros(shape, np.bool_) for _ in range(2)]
    for number in range(5):
        low = [int(rng.integers(0, side - 1)) for side in shape]
        box = tuple(slice(at, at + int(rng.integers(1, 6))) for at in low)
        for mask in masks if number < 2 else masks[number % 2 :][:1]:
            mask[box] = True
    return masks[0], masks[1]


def measured(found: Bools, truth: Bools, labeled: Bools | None = None, **given: Any) -> Distances:
    known = None if labeled is None else torch.from_numpy(labeled)
    return distances(torch.from_numpy(found), torch.from_numpy(truth), labeled=known, **given)


class TestDistances:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize(
        ("shape", "spacing"),
        [((14, 17), (1.0, 1.0)), ((14, 17), (0.4, 2.5)), ((9, 8, 7), (0.7, 0.7, 5.0))],
    )
    def test_agree_with_the_table_of_all_distances(
        self, shape: tuple[int, ...], spacing: tuple[float, ...], seed: int
    ) -> None:
        found, truth = blobs(shape, seed)

        given = measured(found, truth, spacing=spacing, tolerance=1.5)

        assert given == pytest.approx(reference(found, truth, spacing, 1.5), rel=1e-5)

    # These pass their own helper an argument that it calls deprecated.
    @pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
    @pytest.mark.parametrize("seed", range(4))
    def test_agree_with_monai_s_own_metrics(self, seed: int) -> None:
        found, truth = blobs((12, 13, 9), seed)
        pair = [torch.from_numpy(mask)[None, None] for mask in (found, truth)]
        spacing = (1.0, 0.5, 3.0)

        given = measured(found, truth, spacing=spacing, tolerance=1.0)

        near = compute_surface_dice(*pair, [1.0], include_background=True, spacing=spacing)
        far = compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=spacing
        )
        assert given.surface_dice == pytest.approx(float(near))
        assert given.hd95 == pytest.approx(float(far), rel=1e-5)

    @pytest.mark.parametrize("seed", range(4))
    def test_leave_out_what_is_not_labeled_and_the_surface_that_it_makes(self, seed: int) -> None:
        found, truth = blobs((14, 17), seed)
        labeled = np.random.default_rng(seed).random((14, 17)) > 0.3

        given = measured(found, truth, labeled, spacing=(1.0, 2.0), tolerance=1.0)

        expected = reference(found, truth, (1.0, 2.0), 1.0, ~labeled)
        assert given == pytest.approx(expected, rel=1e-5)

    def test_cut_by_unlabeled_pixels_a_mask_equals_the_whole_beside_it(self) -> None:
        truth, found = np.zeros((20, 20), np.bool_), np.zeros((20, 20), np.bool_)
        truth[5:15, 5:15] = found[5:15, 5:12] = True
        labeled = np.ones((20, 20), np.bool_)
        labeled[:, 12:] = False

        given = measured(found, truth, labeled, spacing=(1.0, 1.0), tolerance=0.0)

        assert given == Distances(1.0, 0.0, 0.0)

    def test_one_voxel_beside_another_lies_its_spacing_away(self) -> None:
        found, truth = np.zeros((5, 5, 5), np.bool_), np.zeros((5, 5, 5), np.bool_)
        found[2, 2, 2] = truth[2, 2, 3] = True

        near = measured(found, truth, spacing=(1.0, 1.0, 5.0), tolerance=5.0)
        far = measured(found, truth, spacing=(1.0, 1.0, 5.0), tolerance=4.9)

        assert near == Distances(1.0, 5.0, 5.0)
        assert far == Distances(0.0, 5.0, 5.0)

    def test_a_volume_of_one_slice_is_measured_as_a_picture(self) -> None:
        found, truth = blobs((14, 17), 1)

        flat = measured(found, truth, spacing=(1.0, 2.0), tolerance=1.0)
        volume = measured(found[:, None], truth[:, None], spacing=(1.0, 5.0, 2.0), tolerance=1.0)

        assert volume == flat

    def test_an_empty_mask_has_no_distance(self) -> None:
        full, empty = np.ones((4, 4), np.bool_), np.zeros((4, 4), np.bool_)
        given = {"spacing": (1.0, 1.0), "tolerance": 1.0}

        assert measured(empty, empty, **given) == Distances(None, None, None)
        assert measured(full, empty, **given) == Distances(0.0, None, None)
        assert measured(empty, full, **given) == Distances(0.0, None, None)

    def test_masks_inside_a_large_volume_equal_their_crop(self) -> None:
        found, truth = blobs((9, 8, 7), 2)
        padding = ((40, 3), (0, 60), (11, 30))
        given = {"spacing": (1.0, 1.0, 2.0), "tolerance": 1.0}

        whole = measured(np.pad(found, 1), np.pad(truth, 1), **given)
        padded = measured(
            np.pad(np.pad(found, 1), padding), np.pad(np.pad(truth, 1), padding), **given
        )

        assert padded == whole


class TestOverlap:
    @pytest.mark.parametrize("seed", range(4))
    def test_agrees_with_sets_of_voxels(self, seed: int) -> None:
        masks = blobs((9, 8, 7), seed)
        one, other = ({tuple(place) for place in np.argwhere(mask)} for mask in masks)

        given = overlap(*(torch.from_numpy(mask) for mask in masks))

        assert given == pytest.approx(
            (
                2 * len(one & other) / (len(one) + len(other)),
                len(one & other) / len(one | other),
                len(one & other) / len(one),
                len(one & other) / len(other),
            )
        )

    def test_of_empty_masks_is_whole_and_of_one_is_none(self) -> None:
        full, empty = torch.ones(3, 3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool)

        assert overlap(empty, empty) == (1.0, 1.0, None, None)
        assert overlap(full, empty) == (0.0, 0.0, 0.0, None)
        assert overlap(empty, full) == (0.0, 0.0, None, 0.0)


class TestScaleOf:
    def test_is_mm_where_a_file_states_it_and_pixels_of_pictures_that_do_not(self) -> None:
        affine = np.diag([0.5, 0.7, 3.0, 1.0])
        about = {"path": "a", "name": "a", "modality": "ct"}

        volume = Image(**about, grid=Grid(shape=(4, 5, 6), affine=affine))
        picture = Image(**about, grid=Grid(shape=(4, 5)))
        stated = Image(**about, grid=Grid(shape=(4, 5), pixel_spacing=(0.1, 0.2)))

        assert scale_of(volume) == ("mm", pytest.approx((0.5, 0.7, 3.0)))
        assert scale_of(picture) == ("px", (1.0, 1.0))
        assert scale_of(stated) == ("mm", (0.1, 0.2))

    def test_of_frames_and_uneven_slices_is_not_known(self) -> None:
        frames = Image(
            path="a", name="a", modality="mri", grid=Grid(shape=(4, 5, 6), pixel_spacing=(0.1, 0.2))
        )

        assert scale_of(frames).unit is None
