from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from esp_medsam.dicom import read_segmentation
from esp_medsam.errors import GeometryError, TooLargeError
from esp_medsam.image import Image


class TestGrid:
    def test_includes_planes_that_hold_no_segment(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        mask = np.zeros(stack.grid.shape, np.uint8)
        mask[1, 2, 1] = mask[3, 1, 4] = 1

        read = read_segmentation(seg.saved(seg.made(stack, [mask]), tmp_path / "seg"))

        assert stack.grid.affine is not None
        assert read.grid.shape == (6, 4, 4)
        np.testing.assert_array_equal(read.mask(1), mask[..., 1:])
        expected = stack.grid.affine.copy()
        expected[:3, 3] += stack.grid.affine[:3, 2]
        np.testing.assert_allclose(read.grid.affine, expected, atol=1e-6)
        assert read.warnings == ()

    def test_is_not_made_up_where_distances_are_no_multiples(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        dataset = seg.made(stack, np.ones((1, *stack.grid.shape), np.uint8))
        position = dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
        position.ImagePositionPatient[2] += 0.1

        read = read_segmentation(seg.saved(dataset, tmp_path / "seg"))

        assert read.grid.affine is None
        assert "not evenly spaced" in read.problem
        assert read.mask(1).all()

    def test_takes_the_least_distance_where_none_is_stated_and_says_so(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        stack = seg.stack(tmp_path, 5, Rows=4, Columns=4, PixelData=bytes(32))
        mask = np.zeros(stack.grid.shape, np.uint8)
        mask[..., ::2] = 1
        dataset = seg.made(stack, [mask])
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        del measures.SpacingBetweenSlices

        read = read_segmentation(seg.saved(dataset, tmp_path / "seg"))

        assert read.grid.shape == (4, 4, 3)
        (warning,) = read.warnings
        assert "no spacing between planes; they were taken to be 4 mm apart" in warning
        assert read.with_spacing(2.0).grid.shape == (4, 4, 5)
        np.testing.assert_array_equal(read.with_spacing(2.0).mask(1), mask)

    def test_believes_positions_where_the_stated_spacing_contradicts_them(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        dataset = seg.made(stack, np.ones((1, *stack.grid.shape), np.uint8))
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = 5

        read = read_segmentation(seg.saved(dataset, tmp_path / "seg"))

        assert read.grid.shape == (6, 4, 5)
        assert "spacing of 5 mm" in read.warnings[0]

    def test_of_one_plane_of_no_stated_depth_is_none(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        mask = np.zeros(stack.grid.shape, np.uint8)
        mask[..., 2] = 1
        dataset = seg.made(stack, [mask])
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        del measures.SpacingBetweenSlices, measures.SliceThickness

        read = read_segmentation(seg.saved(dataset, tmp_path / "seg"))

        assert read.grid.affine is None
        assert "one plane" in read.problem
        assert read.with_spacing(2.0).grid.affine is not None

    def test_refuses_two_frames_of_a_segment_in_one_place(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        dataset = seg.made(stack, np.ones((1, *stack.grid.shape), np.uint8))
        groups = dataset.PerFrameFunctionalGroupsSequence
        groups[1].PlanePositionSequence = groups[0].PlanePositionSequence

        with pytest.raises(GeometryError, match=r"\(frame 2\) and.*\(frame 1\) lie.*place"):
            read_segmentation(seg.saved(dataset, tmp_path / "seg"))

    def test_refuses_frames_beside_one_another(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        dataset = seg.made(stack, np.ones((2, *stack.grid.shape), np.uint8), seg.targets[:2])
        position = dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
        position.ImagePositionPatient[0] += 10

        with pytest.raises(GeometryError, match=r"\(frame 6\) and .*\(frame 1\)"):
            read_segmentation(seg.saved(dataset, tmp_path / "seg"))

    def test_refuses_a_stack_that_would_not_fit(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mask = np.zeros(stack.grid.shape, np.uint8)
        mask[..., [0, 4]] = 1
        dataset = seg.made(stack, [mask])
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = 8 / 1000

        read = read_segmentation(seg.saved(dataset, tmp_path / "seg"))

        monkeypatch.setattr("esp_medsam.memory.available_memory", lambda: 24_000)
        with pytest.raises(TooLargeError, match="1001 x 4 x 6 mask"):
            read.mask(1)
