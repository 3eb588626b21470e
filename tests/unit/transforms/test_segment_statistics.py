from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.spatial.distance import pdist

from esp_medsam.grid import Grid
from esp_medsam.transforms.segment_statistics import SegmentStatistics, segment_statistics


SHAPES = array_shapes(min_dims=3, max_dims=3, max_side=5)

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 3.0, 0, 20], [0, 0, 5.0, 30], [0, 0, 0, 1]])


def only(labelmap: Any, grid: Grid | None = None, pixels: Any = None) -> SegmentStatistics:
    array = np.asarray(labelmap, np.uint8)
    (found,) = segment_statistics(array, [1], grid or Grid(shape=array.shape), pixels)
    return found


def turned(degrees: float) -> npt.NDArray[np.float64]:
    """An oblique affine with spacings of 1, 2 and 4 mm."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([1.0, 2.0, 4.0])
    return affine


class TestPlaceAndSize:
    def test_of_a_box_in_a_volume(self) -> None:
        labelmap = np.zeros((6, 7, 4), np.uint8)
        labelmap[1:4, 2:4, 1:3] = 1

        found = only(labelmap, Grid(shape=labelmap.shape, affine=AFFINE))

        assert (found.voxels, found.components) == (12, 1)
        assert found.ml == pytest.approx(12 * 30 / 1000)
        assert (found.box_first, found.box_last) == ((1, 2, 1), (3, 3, 2))
        assert found.centroid == (2.0, 2.5, 1.5)
        assert found.centroid_mm == (6.0, 27.5, 37.5)
        assert found.diameter_mm == pytest.approx(np.sqrt(4**2 + 3**2 + 5**2), rel=1e-5)
        assert found.area_mm2 is None

    def test_of_a_picture_with_spacing(self) -> None:
        grid = Grid(shape=(3, 4), pixel_spacing=(0.5, 0.25))

        found = only([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], grid)

        assert (found.voxels, found.ml, found.area_mm2, found.components) == (3, None, 0.375, 2)
        assert found.diameter_mm == pytest.approx(np.hypot(2 * 0.5, 3 * 0.25), rel=1e-5)
        assert found.centroid_mm is None

    def test_of_a_picture_without_spacing_is_in_pixels_alone(self) -> None:
        found = only([[0, 1], [1, 0]])

        assert (found.voxels, found.components, found.centroid) == (2, 1, (0.5, 0.5))
        assert (found.ml, found.area_mm2, found.diameter_mm) == (None, None, None)

    def test_of_an_empty_segment_is_a_size_of_zero(self) -> None:
        grid = Grid(shape=(2, 2, 2), affine=AFFINE)

        assert only(np.zeros((2, 2, 2)), grid) == SegmentStatistics(voxels=0, ml=0.0)

    def test_are_in_the_order_of_the_labels(self) -> None:
        labelmap = np.array([[3, 0, 1], [3, 3, 0]], np.uint8)

        found = segment_statistics(labelmap, [1, 2, 3], Grid(shape=(2, 3)))

        assert [one.voxels for one in found] == [1, 0, 3]

    def test_refuses_other_shapes(self) -> None:
        with pytest.raises(ValueError, match="one shape"):
            only([[1]], Grid(shape=(1, 2)))


class TestDiameter:
    @settings(max_examples=60)
    @given(
        mask=arrays(
            np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.integers(0, 1)
        ),
        degrees=st.floats(-40, 40),
    )
    def test_is_the_largest_distance_of_all_pairs(
        self, mask: npt.NDArray[np.uint8], degrees: float
    ) -> None:
        affine = turned(degrees)

        found = only(mask, Grid(shape=mask.shape, affine=affine))

        points = np.argwhere(mask) @ affine[:3, :3].T
        expected = pdist(points).max() if len(points) > 1 else 0.0
        assert (found.diameter_mm or 0.0) == pytest.approx(expected, rel=1e-5)


class TestAgainstSimpleITK:
    @settings(max_examples=30)
    @given(arrays(np.uint8, (5, 4, 3), elements=st.integers(0, 2)), st.floats(-40, 40))
    def test_sizes_places_and_intensities_agree(
        self, labelmap: npt.NDArray[np.uint8], degrees: float
    ) -> None:
        """SimpleITK's positions are LPS: the first two change sign."""
        affine, pixels = turned(degrees), np.arange(60.0).reshape(1, 5, 4, 3) ** 1.5
        image: Any = SimpleITK.GetImageFromArray(labelmap.transpose())
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((np.diag([-1, -1, 1]) @ affine[:3, :3] / spacing).ravel().tolist())
        shape: Any = SimpleITK.LabelShapeStatisticsImageFilter()
        shape.Execute(image)
        intensity: Any = SimpleITK.LabelStatisticsImageFilter()
        values: Any = SimpleITK.GetImageFromArray(pixels[0].transpose())
        values.CopyInformation(image)
        intensity.Execute(values, image)

        found = segment_statistics(labelmap, [1, 2], Grid(shape=(5, 4, 3), affine=affine), pixels)

        for value, one in enumerate(found, start=1):
            if not shape.HasLabel(value):
                assert one.voxels == 0
                continue
            assert one.voxels == shape.GetNumberOfPixels(value)
            assert one.ml == pytest.approx(shape.GetPhysicalSize(value) / 1000, rel=1e-5)
            assert one.centroid_mm is not None
            there = np.multiply(shape.GetCentroid(value), (-1, -1, 1))
            np.testing.assert_allclose(one.centroid_mm, there, atol=1e-4)
            start = shape.GetBoundingBox(value)
            assert one.box_first == start[:3]
            assert one.mean == pytest.approx(intensity.GetMean(value), rel=1e-5)
            assert (one.minimum, one.maximum) == pytest.approx(
                (intensity.GetMinimum(value), intensity.GetMaximum(value)), rel=1e-5
            )


class TestIntensity:
    def test_percentiles_are_of_the_segment_alone(self) -> None:
        pixels = np.array([[[1.0, 2.0, 3.0, 900.0]]])

        found = only([[1, 1, 1, 0]], pixels=pixels)

        assert found.percentiles == (1.1, 1.5, 2.0, 2.5, 2.9)
        assert found.standard_deviation == pytest.approx(np.std([1, 2, 3]), rel=1e-5)

    def test_of_color_is_left_out(self) -> None:
        found = only([[1, 0]], pixels=np.zeros((3, 1, 2)))

        assert (found.voxels, found.mean, found.percentiles) == (1, None, None)
