from __future__ import annotations

import numpy as np
import pytest

from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.io.slice_choice import cuts_through, profiles, spread_indices


def volume(shape: tuple[int, int, int], affine: np.ndarray | None = None, **more: int) -> Image:
    grid = Grid(shape=shape, affine=affine, **more)
    return Image(path="a", name="a", modality="ct", grid=grid)


def chosen(record: Image, labels: np.ndarray | None, jump: int | None = None) -> list[tuple]:
    profile = None if labels is None else profiles(labels)[1]
    cuts = cuts_through(record, None, profile, jump)
    return [(cut.plane, cut.index, cut.reason) for cut in cuts]


class TestCutsThrough:
    def test_are_the_largest_slice_of_each_plane_then_those_that_matter(self) -> None:
        labels = np.zeros((20, 30, 40), np.uint8)
        labels[3, 5:9, 10:31] = 1
        labels[3:8, 7, 25] = 1

        assert chosen(volume((20, 30, 40), np.eye(4)), labels, jump=22) == [
            ("axial", 25, "largest"),
            ("coronal", 7, "largest"),
            ("sagittal", 3, "largest"),
            ("axial", 14, "first fifth"),
            ("axial", 26, "last fifth"),
            ("axial", 22, "largest jump"),
        ]

    def test_are_the_middle_where_nothing_was_found(self) -> None:
        assert chosen(volume((20, 30, 40), np.eye(4)), None) == [
            ("axial", 20, "middle"),
            ("coronal", 15, "middle"),
            ("sagittal", 10, "middle"),
            ("axial", 10, "a quarter"),
            ("axial", 30, "three quarters"),
        ]

    @pytest.mark.parametrize("slices", [1, 2, 7])
    def test_leave_out_planes_across_too_few_slices(self, slices: int) -> None:
        record = volume((30, 30, slices), np.diag([1, 1, 5.0, 1]))

        assert {plane for plane, *_ in chosen(record, None)} == {"axial"}

    def test_of_frames_without_positions_are_frames(self) -> None:
        labels = np.zeros((20, 30, 9), np.uint8)
        labels[3:6, 3:6, 4] = 1

        assert chosen(volume((20, 30, 9), stack_axis=2), labels) == [("frame", 4, "largest")]

    def test_name_no_slice_twice(self) -> None:
        labels = np.ones((9, 9, 9), np.uint8)

        found = [(plane, index) for plane, index, _ in chosen(volume((9, 9, 9), np.eye(4)), labels)]

        assert len(found) == len(set(found))


class TestProfiles:
    def test_count_each_label_along_each_axis(self) -> None:
        labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8)

        found = profiles(labels)

        assert sorted(found) == [1, 2, 3]
        for label, axes in found.items():
            for axis, sizes in enumerate(axes):
                others = tuple(other for other in range(3) if other != axis)
                assert sizes.tolist() == (labels == label).sum(axis=others).tolist()

    def test_are_none_of_an_empty_labelmap(self) -> None:
        assert profiles(np.zeros((3, 3, 3), np.uint8)) == {}


class TestSpread:
    @pytest.mark.parametrize(
        ("count", "expected"), [(1, [0]), (2, [0, 1]), (9, list(range(9))), (90, [5, 15, 25])]
    )
    def test_stays_inside_and_in_order(self, count: int, expected: list[int]) -> None:
        assert spread_indices(count, 9)[: len(expected)] == expected
        assert max(spread_indices(count, 9)) < count
