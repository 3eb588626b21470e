from __future__ import annotations

import errno
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from esp_medsam.dicom import find_volumes
from esp_medsam.dicom.seg.write.writer import build_segmentation, write_segmentation
from esp_medsam.errors import FormatError, GeometryError, OptionError, OutputError
from esp_medsam.grid import Grid
from esp_medsam.image import Image


class TestKinds:
    def test_binary_masks_may_overlap(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 2)
        first, second = np.zeros((2, 6, 4, 2), np.uint8)
        first[:3] = 1
        second[2:] = 1

        overlapping = seg.made(image, [first, second], seg.targets[:2])
        apart = seg.made(image, [first, 1 - first], seg.targets[:2])

        np.testing.assert_array_equal(
            seg.decoded(seg.reopened(overlapping), image),
            [seg.as_stored(first, image), seg.as_stored(second, image)],
        )
        assert (overlapping.SegmentsOverlap, apart.SegmentsOverlap) == ("YES", "NO")

    def test_fractional_masks_keep_probabilities_as_they_are(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 2, Rows=5, Columns=7, PixelData=bytes(70))
        values = np.random.default_rng(0).integers(0, 256, (2, *image.grid.shape), np.uint8)

        dataset = seg.made(image, values, seg.targets[:2], kind="fractional")

        found = seg.decoded(seg.reopened(dataset), image, rescale_fractional=False)
        np.testing.assert_array_equal(found, [seg.as_stored(value, image) for value in values])
        assert dataset.SegmentationFractionalType == "PROBABILITY"
        assert dataset.MaximumFractionalValue == 255

    def test_a_labelmap_holds_the_table_s_labels(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 3)
        labelmap = seg.scattered(image)[0] * np.uint8(7)
        labelmap[0] = 3
        labelmap[..., 1] = 0

        dataset = seg.made(image, [labelmap], seg.targets, kind="labelmap")

        segmentation = seg.reopened(dataset)
        assert list(segmentation.segment_numbers) == [3, 7]  # nothing of the third
        np.testing.assert_array_equal(
            segmentation.pixel_array, seg.as_stored(labelmap, image)[[0, 2]]
        )
        np.testing.assert_array_equal(
            seg.decoded(segmentation, image), [seg.as_stored(labelmap == n, image) for n in (3, 7)]
        )


class TestEmptyMasks:
    @pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
    def test_make_no_object(self, seg: SimpleNamespace, tmp_path: Path, kind: str) -> None:
        image = seg.stack(tmp_path, 2)
        masks = np.zeros((3, *image.grid.shape), np.uint8)

        assert build_segmentation(image, masks, seg.targets, kind=kind) is None

    @pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
    def test_make_one_that_opens_where_it_is_asked_for(
        self, seg: SimpleNamespace, tmp_path: Path, kind: str
    ) -> None:
        image = seg.stack(tmp_path, 2, Rows=4, Columns=4, PixelData=bytes(32))
        masks = np.zeros((3, *image.grid.shape), np.uint8)

        dataset = seg.made(image, masks, seg.targets, kind=kind, write_empty=True)

        segmentation = seg.reopened(dataset)
        assert not seg.decoded(segmentation, image).any()
        assert len(segmentation.segment_numbers) == 3
        assert segmentation.NumberOfFrames == (1 if kind == "labelmap" else 3)
        assert dataset.SeriesDescription == "Segmentation: nothing found"


class TestFiles:
    def test_bear_our_mark_in_their_beginning(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 1)

        written = seg.bytes_of(seg.made(image, seg.scattered(image)))

        assert b"esp-medsam 1.2.3" in written[:4096]
        assert written[128:132] == b"DICM"

    def test_are_no_images_to_our_own_reader(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 1)
        (tmp_path / "seg.dcm").write_bytes(seg.bytes_of(seg.made(image, seg.scattered(image))))

        found = find_volumes(tmp_path)

        assert len(found.volumes) == 1
        assert len(found.others) == 1


class SmallDisk(io.BytesIO):
    """A file on a disk with room for so many bytes.

    Args:
        room: That many.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


class TestFullDisks:
    @pytest.mark.parametrize("room", [100, 1000, 2000])
    def test_are_known_by_their_number_wherever_they_are_full(
        self, seg: SimpleNamespace, tmp_path: Path, room: int
    ) -> None:
        image = seg.stack(tmp_path, 2)
        dataset = seg.made(image, [np.ones(image.grid.shape, np.uint8)], seg.targets[:1])

        with pytest.raises(OSError, match="No space") as caught:
            write_segmentation(dataset, SmallDisk(room))

        assert caught.value.errno == errno.ENOSPC


class TestRefusals:
    @pytest.fixture
    def image(self, seg: SimpleNamespace, tmp_path: Path) -> Image:
        return seg.stack(tmp_path, 2)

    def test_of_an_unknown_kind(self, seg: SimpleNamespace, image: Image) -> None:
        with pytest.raises(OptionError, match=r"seg_type must be one of binary.*'surface'"):
            seg.made(image, seg.scattered(image), kind="surface")

    @pytest.mark.parametrize(("shape", "instead"), [((4, 6), "Use png"), ((4, 6, 2), "Use nifti")])
    def test_of_images_that_are_no_dicom(
        self, seg: SimpleNamespace, shape: tuple[int, ...], instead: str
    ) -> None:
        image = Image(path="a.png", name="a", modality="xray", grid=Grid(shape=shape))

        with pytest.raises(OptionError, match=f"output_format must not be dicom-seg .*{instead}"):
            seg.made(image, seg.scattered(image))

    def test_of_a_study_without_its_uid(self, seg: SimpleNamespace, image: Image) -> None:
        unnamed = replace(image, study_uid=None)

        with pytest.raises(FormatError, match=r"StudyInstanceUID \(0020,000D\).*format nifti"):
            seg.made(unnamed, seg.scattered(image))

    def test_of_slices_without_an_instance(self, seg: SimpleNamespace, image: Image) -> None:
        fewer = replace(image, sources=image.sources[:1])

        with pytest.raises(GeometryError, match="each of its 2 slices; it names 1"):
            seg.made(fewer, seg.scattered(image))

    def test_of_masks_off_the_grid(self, seg: SimpleNamespace, image: Image) -> None:
        with pytest.raises(GeometryError, match=r"on the grid of .*\(6, 4, 2\); got \(4, 6, 2\)"):
            seg.made(image, seg.scattered(image).transpose(0, 2, 1, 3))

    def test_of_masks_of_another_type(self, seg: SimpleNamespace, image: Image) -> None:
        with pytest.raises(TypeError, match="uint8 or bool; got float32"):
            seg.made(image, seg.scattered(image).astype(np.float32))

    def test_of_labels_that_are_no_target_s(self, seg: SimpleNamespace, image: Image) -> None:
        with pytest.raises(GeometryError, match=r"labels of its targets; got also \[1\]"):
            seg.made(image, seg.scattered(image), kind="labelmap")

    def test_of_more_than_one_object_holds(
        self, seg: SimpleNamespace, image: Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.dicom.seg.write.writer._MOST_BYTES", 5)

        with pytest.raises(OutputError, match="fit in 4 GiB"):
            seg.made(image, seg.scattered(image))
