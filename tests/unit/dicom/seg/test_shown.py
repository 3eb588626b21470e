"""What is stored so that viewers show it, which read frames by rules of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from esp_medsam.dicom import read_segmentation
from esp_medsam.errors import OutputError
from esp_medsam.image import Image


def is_split_by_dcmjs(dataset: Dataset) -> bool:
    """Whether dcmjs 0.52, and with it OHIF 3.13, takes frames from where they lie.

    Of several frames it refuses pixels whose length is no multiple of their number, and takes bits
    in the wrong order where a frame ends inside a byte.
    """
    bits = dataset.Rows * dataset.Columns * dataset.BitsAllocated
    count = int(dataset.NumberOfFrames)
    return count == 1 or (bits % 8 == 0 and len(dataset.PixelData) % count == 0)


@pytest.fixture
def stack_of(seg: SimpleNamespace, tmp_path: Path) -> Callable[..., Image]:
    def make(rows: int, columns: int, planes: int) -> Image:
        pixels = bytes(2 * rows * columns)
        image: Image = seg.stack(tmp_path, planes, Rows=rows, Columns=columns, PixelData=pixels)
        return image

    return make


class TestFrames:
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        rows=st.integers(1, 12),
        columns=st.integers(1, 12),
        planes=st.integers(1, 4),
        count=st.integers(1, 3),
        kind=st.sampled_from(["binary", "labelmap", "fractional"]),
        seed=st.integers(0, 99),
    )
    def test_of_any_size_are_taken_by_dcmjs_unless_every_plane_holds_every_segment(
        self,
        seg: SimpleNamespace,
        tmp_path_factory: pytest.TempPathFactory,
        rows: int,
        columns: int,
        planes: int,
        count: int,
        kind: str,
        seed: int,
    ) -> None:
        folder = tmp_path_factory.mktemp("shown")
        pixels = bytes(2 * rows * columns)
        image = seg.stack(folder, planes, Rows=rows, Columns=columns, PixelData=pixels)
        masks = seg.scattered(image, count, seed)
        # Planes of each are left out at random.
        masks *= np.random.default_rng(seed).random((count, 1, 1, planes)) > 0.3
        masks[:, 0, 0, 0] = 1
        labels = np.zeros(image.grid.shape, np.uint8)
        for mask, target in zip(masks, seg.targets, strict=False):
            labels[mask != 0] = target.label
        content = {"binary": masks, "labelmap": [labels], "fractional": masks * np.uint8(200)}[kind]
        targets = seg.targets if kind == "labelmap" else seg.targets[:count]

        dataset = seg.made(image, content, targets, kind=kind)

        frames = int(dataset.NumberOfFrames)
        is_full = frames == planes * (1 if kind == "labelmap" else count)
        is_odd = len(dataset.PixelData) % frames != 0
        assert is_split_by_dcmjs(dataset) or (is_full and is_odd and dataset.BitsAllocated == 8)
        found = seg.decoded(seg.reopened(dataset), image)
        if kind != "labelmap":
            expected = [seg.as_stored(mask, image) for mask in masks]
            assert np.array_equal(found > 0.5, expected)
        read = read_segmentation(seg.saved(dataset, folder / "seg"))
        by_words = {target.words: k for k, target in enumerate(seg.targets)}
        for segment in read.segments:
            target = seg.targets[by_words[segment.label]]
            whole = labels == target.label if kind == "labelmap" else masks[by_words[segment.label]]
            assert int((read.mask(segment.number) != 0).sum()) == int(whole.sum())

    def test_that_end_inside_a_byte_are_fractions_of_one(
        self, seg: SimpleNamespace, stack_of: Callable[..., Image], tmp_path: Path
    ) -> None:
        image = stack_of(5, 7, 4)
        masks = seg.scattered(image, 2)
        masks[1][masks[0] != 0] = 0

        dataset = seg.made(image, masks, seg.targets[:2])

        assert (dataset.SegmentationType, dataset.BitsAllocated) == ("FRACTIONAL", 8)
        assert (dataset.SegmentationFractionalType, dataset.SegmentsOverlap) == (
            "PROBABILITY",
            "NO",
        )
        assert dataset.MaximumFractionalValue == 1
        assert set(dataset.PixelData) == {0, 1}
        read = read_segmentation(seg.saved(dataset, tmp_path / "seg"))
        assert read.is_whole
        np.testing.assert_array_equal(read.labelmap(), masks[0] + 2 * masks[1])

    @pytest.mark.parametrize(("rows", "columns", "planes"), [(5, 7, 1), (4, 6, 4), (8, 8, 3)])
    def test_that_every_viewer_takes_as_bits_are_binary(
        self,
        seg: SimpleNamespace,
        stack_of: Callable[..., Image],
        rows: int,
        columns: int,
        planes: int,
    ) -> None:
        image = stack_of(rows, columns, planes)

        dataset = seg.made(image, np.ones((1, *image.grid.shape), np.uint8))

        assert (dataset.SegmentationType, dataset.BitsAllocated) == ("BINARY", 1)
        assert dataset.NumberOfFrames == planes

    @pytest.mark.parametrize("kind", ["binary", "fractional", "labelmap"])
    def test_have_an_empty_one_beside_them_where_their_bytes_would_be_odd(
        self, seg: SimpleNamespace, stack_of: Callable[..., Image], kind: str
    ) -> None:
        rows, columns = (4, 6) if kind == "binary" else (5, 7)
        image = stack_of(rows, columns, 6)
        mask = np.zeros(image.grid.shape, np.uint8)
        mask[..., 2:5] = 200 if kind == "fractional" else 1 if kind == "binary" else 3

        dataset = seg.made(image, [mask], seg.targets[: 3 if kind == "labelmap" else 1], kind=kind)

        assert dataset.NumberOfFrames == 4
        assert dataset.SegmentationType == kind.upper()
        *held, empty = seg.reopened(dataset).pixel_array
        assert [frame.any() for frame in held] == [True] * 3
        assert not empty.any()
        group = dataset.PerFrameFunctionalGroupsSequence[-1]
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == image.sources[5].sop_instance_uid
        assert group.PlanePositionSequence[0].ImagePositionPatient[2] == 10.0

    def test_of_another_segment_s_plane_come_before_a_plane_more(
        self, seg: SimpleNamespace, stack_of: Callable[..., Image]
    ) -> None:
        image = stack_of(4, 6, 6)
        masks = np.zeros((2, *image.grid.shape), np.uint8)
        masks[0][..., 0:3] = 1
        masks[1][..., 1:3] = 1

        dataset = seg.made(image, masks, seg.targets[:2])

        group = dataset.PerFrameFunctionalGroupsSequence[-1]
        assert dataset.NumberOfFrames == 6
        assert group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 2
        assert group.PlanePositionSequence[0].ImagePositionPatient[2] == 0.0

    def test_that_fill_every_plane_with_odd_bytes_take_a_byte_a_pixel(
        self, seg: SimpleNamespace, stack_of: Callable[..., Image]
    ) -> None:
        image = stack_of(4, 6, 3)

        dataset = seg.made(image, np.ones((1, *image.grid.shape), np.uint8))

        assert (dataset.SegmentationType, dataset.NumberOfFrames) == ("FRACTIONAL", 3)
        assert is_split_by_dcmjs(dataset)

    def test_that_take_a_byte_a_pixel_are_refused_beyond_4_gib_as_such(
        self,
        seg: SimpleNamespace,
        stack_of: Callable[..., Image],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("esp_medsam.dicom.seg.write.writer._MOST_BYTES", 100)
        image = stack_of(5, 7, 3)

        with pytest.raises(OutputError, match="fit in 4 GiB"):
            seg.made(image, np.ones((1, *image.grid.shape), np.uint8))
