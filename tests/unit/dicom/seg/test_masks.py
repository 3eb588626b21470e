from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from esp_medsam.dicom import read_segmentation
from esp_medsam.errors import OptionError
from esp_medsam.image import Image


class TestLabelmap:
    def test_of_binary_segments_has_their_numbers(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        masks = seg.scattered(stack, 2)
        masks[1][masks[0] != 0] = 0

        read = read_segmentation(
            seg.saved(seg.made(stack, masks, seg.targets[:2]), tmp_path / "seg")
        )

        np.testing.assert_array_equal(read.labelmap(), masks[0] + 2 * masks[1])

    def test_of_large_numbers_is_wide_enough(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        mask = seg.scattered(stack)
        dataset = seg.made(stack, mask)
        dataset.SegmentSequence[0].SegmentNumber = 300
        for group in dataset.PerFrameFunctionalGroupsSequence:
            group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 300

        found = read_segmentation(seg.saved(dataset, tmp_path / "seg")).labelmap()

        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, mask[0] * np.uint16(300))

    def test_of_16_bits_is_read(self, seg: SimpleNamespace, stack: Image, tmp_path: Path) -> None:
        labels = np.full(stack.grid.shape, 7, np.uint8)
        labels[0] = 0
        dataset = seg.made(stack, [labels], seg.targets, kind="labelmap")
        wide = np.frombuffer(dataset.PixelData, np.uint8).astype("<u2")
        wide[wide == 7] = 40_000
        dataset.SegmentSequence[1].SegmentNumber = 40_000
        path = seg.changed(
            dataset,
            tmp_path / "seg",
            BitsAllocated=16,
            BitsStored=16,
            HighBit=15,
            PixelData=wide.tobytes(),
        )

        found = read_segmentation(path).labelmap()

        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, (labels != 0) * np.uint16(40_000))

    def test_is_refused_where_segments_overlap(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        masks = np.ones((2, *stack.grid.shape), np.uint8)
        read = read_segmentation(
            seg.saved(seg.made(stack, masks, seg.targets[:2]), tmp_path / "seg")
        )

        with pytest.raises(OptionError, match=r"segment 2 overlaps.*`split_segments`"):
            read.labelmap()

        assert read.mask(2).all()

    def test_is_refused_of_fractions(
        self, seg: SimpleNamespace, stack: Image, tmp_path: Path
    ) -> None:
        masks = np.full((1, *stack.grid.shape), 255, np.uint8)
        read = read_segmentation(
            seg.saved(seg.made(stack, masks, kind="fractional"), tmp_path / "seg")
        )

        with pytest.raises(OptionError, match="FRACTIONAL"):
            read.labelmap()
