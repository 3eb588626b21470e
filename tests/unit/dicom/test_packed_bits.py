"""Frames that begin inside a byte, of any writer, beside what highdicom reads of them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import highdicom as hd
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from esp_medsam.dicom import read_segmentation
from esp_medsam.dicom.packed_bits import PixelPacker, bit_layout, unpacked_frames
from esp_medsam.dicom.pixel_file import PixelFile
from esp_medsam.dicom.seg.write.segments import describe_algorithm, describe_segment
from esp_medsam.errors import CorruptFileError


def frames_of(count: int, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((count, rows, columns)) > 0.5).astype(np.uint8)


def without_gaps(frames: np.ndarray) -> bytes:
    """Frames as the standard has them, but for the byte that makes their length even."""
    return np.packbits(frames.ravel(), bitorder="little").tobytes()


def each_in_bytes_of_its_own(frames: np.ndarray) -> bytes:
    """Frames as cornerstone3D 5 writes them."""
    return np.packbits(frames.reshape(len(frames), -1), axis=1, bitorder="little").tobytes()


def in_bits(dataset: Dataset) -> Dataset:
    """The same as BINARY without gaps, which our writer avoids where frames begin inside a byte."""
    count = dataset.NumberOfFrames
    held = np.frombuffer(dataset.PixelData, np.uint8)[: count * dataset.Rows * dataset.Columns]
    dataset.PixelData = without_gaps(held)
    dataset["PixelData"].VR = "OB"
    dataset.SegmentationType = "BINARY"
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    del dataset.SegmentationFractionalType, dataset.MaximumFractionalValue
    return dataset


def by_highdicom(sources: list[Dataset], masks: np.ndarray, segments: list[Dataset]) -> Dataset:
    """The segmentation of masks ``(frames, rows, columns, segments)`` as highdicom writes it."""
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="a",
        manufacturer_model_name="b",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=False,
    )


def slide_of(tiles: np.ndarray, segments: list[Dataset]) -> Dataset:
    """A segmentation of tiles that lie three in a row, and three rows of them."""
    image = Dataset()
    image.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    image.SOPInstanceUID, image.StudyInstanceUID = "1.2.3", "1.2"
    image.SeriesInstanceUID, image.FrameOfReferenceUID = "1.2.4", "1.9"
    for keyword in (
        "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
        "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
    ):  # fmt: skip
        setattr(image, keyword, "")
    image.Modality, image.ImageType = "SM", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    count, image.Rows, image.Columns = tiles.shape
    image.NumberOfFrames = count
    image.TotalPixelMatrixRows, image.TotalPixelMatrixColumns = 3 * image.Rows, 3 * image.Columns
    image.DimensionOrganizationType = "TILED_FULL"
    image.ImageOrientationSlide = [0, 1, 0, 1, 0, 0]
    image.TotalPixelMatrixOriginSequence = [Dataset()]
    origin = image.TotalPixelMatrixOriginSequence[0]
    origin.XOffsetInSlideCoordinateSystem = origin.YOffsetInSlideCoordinateSystem = 0
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.1, 0.1], 0.1
    image.SharedFunctionalGroupsSequence = [Dataset()]
    image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = [measures]
    image.ContainerIdentifier, image.SpecimenDescriptionSequence = "a", []
    image.OpticalPathSequence = [Dataset()]
    image.OpticalPathSequence[0].OpticalPathIdentifier = "1"
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(ExplicitVRLittleEndian)
    return by_highdicom([image], tiles[..., None], segments)


def described(seg: SimpleNamespace, count: int) -> list[Dataset]:
    """Descriptions of segments, as our own writer makes them."""
    made_with = {"version": "1", "weights_sha256": None, "settings": {}}
    algorithm = describe_algorithm(made_with)
    return [describe_segment(k + 1, seg.targets[k], algorithm) for k in range(count)]


def written(dataset: Dataset, path: Path, syntax: str, content: bytes | None = None) -> Path:
    """Write an object in another transfer syntax, and with other pixels."""
    copy = dcmread(io.BytesIO(_bytes_of(dataset)))
    if content is not None:
        copy.PixelData = content
    copy.file_meta.TransferSyntaxUID = UID(syntax)
    copy.save_as(path, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian)
    return path


def _bytes_of(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


class TestASegmentation:
    @settings(
        max_examples=20,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(
        rows=st.integers(1, 21),
        columns=st.integers(1, 21),
        planes=st.integers(1, 5),
        count=st.integers(1, 3),
        syntax=st.sampled_from(
            [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
        ),
        seed=st.integers(0, 99),
    )
    def test_of_any_size_is_what_highdicom_reads_be_it_ours_or_its_own(
        self,
        seg: SimpleNamespace,
        tmp_path_factory: pytest.TempPathFactory,
        rows: int,
        columns: int,
        planes: int,
        count: int,
        syntax: str,
        seed: int,
    ) -> None:
        folder = tmp_path_factory.mktemp("odd")
        pixels = bytes(2 * rows * columns)
        image = seg.stack(folder, planes, Rows=rows, Columns=columns, PixelData=pixels)
        masks = seg.scattered(image, count, seed)
        masks[:, 0, 0] = 1
        sources = [dcmread(source.path) for source in image.sources]
        for source in sources:
            source.StudyID = source.AccessionNumber = source.PatientID = ""
            source.StudyDate = source.StudyTime = source.PatientSex = source.PatientBirthDate = ""
            source.ReferringPhysicianName = ""
        stored = np.stack([seg.as_stored(mask, image) for mask in masks], axis=-1)
        objects = {"ours": seg.made(image, masks, seg.targets[:count])}
        if objects["ours"].SegmentationType == "FRACTIONAL":
            again = seg.made(image, masks, seg.targets[:count])
            objects["ours_in_bits"] = in_bits(again)
        if rows * columns >= 8:  # below, highdicom 0.28 writes frames in bytes of their own
            objects["theirs"] = by_highdicom(sources, stored, described(seg, count))
        for name, dataset in objects.items():
            path = written(dataset, folder / name, syntax)
            theirs = seg.decoded(hd.seg.segread(path), image)
            read = read_segmentation(path)
            for k, mask in enumerate(masks):
                np.testing.assert_array_equal(read.mask(k + 1), mask)
                np.testing.assert_array_equal(theirs[k], seg.as_stored(mask, image))

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
    def test_is_read_without_the_byte_that_makes_its_length_even(
        self, seg: SimpleNamespace, tmp_path: Path, syntax: str
    ) -> None:
        image = seg.stack(tmp_path, 7, Rows=5, Columns=7, PixelData=bytes(70))
        mask = np.ones(image.grid.shape, np.uint8)
        dataset = in_bits(seg.made(image, [mask]))
        odd = without_gaps(np.ones((7, 5, 7), np.uint8))
        assert len(odd) == 31
        path = written(dataset, tmp_path / "seg", syntax)
        content = path.read_bytes()
        # pydicom pads what it writes, so the length is mended afterwards.
        whole = content if syntax == ExplicitVRLittleEndian else _inflated(content)
        head = whole.index(b"\xe0\x7f\x10\x00OB\0\0")
        whole = whole[:head] + b"\xe0\x7f\x10\x00OB\0\0" + len(odd).to_bytes(4, "little") + odd
        path.write_bytes(whole if syntax == ExplicitVRLittleEndian else _deflated(whole))

        read = read_segmentation(path)

        assert read.mask(1).all()

    def test_of_thousands_of_frames_is_read(
        self, seg: SimpleNamespace, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        shape = {"NumberOfFrames": 1100, "Rows": 3, "Columns": 7, "PixelData": bytes(46_200)}
        cine = dicom.picture(0, UltrasoundMultiFrameImageStorage, **shape)
        image = seg.record(dicom.save(cine, tmp_path / "cine"))
        masks = seg.scattered(image, 2)
        path = seg.saved(in_bits(seg.made(image, masks, seg.targets[:2])), tmp_path / "seg")

        read = read_segmentation(path)

        assert read.kind == "binary"
        for number in (1, 2):
            np.testing.assert_array_equal(read.mask(number), masks[number - 1])

    def test_whose_frames_each_begin_in_a_byte_is_read_with_a_warning(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 4, Rows=5, Columns=7, PixelData=bytes(70))
        masks = seg.scattered(image, 3)
        dataset = in_bits(seg.made(image, masks, seg.targets))
        frames = np.concatenate([seg.as_stored(mask, image) for mask in masks])
        content = each_in_bytes_of_its_own(frames)
        path = written(dataset, tmp_path / "seg", ExplicitVRLittleEndian, content)

        read = read_segmentation(path)

        for k, mask in enumerate(masks):
            np.testing.assert_array_equal(read.mask(k + 1), mask)
        assert ["byte of its own" in warning for warning in read.warnings] == [True]

    def test_with_bytes_behind_its_frames_is_read_with_a_warning(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 4, Rows=5, Columns=7, PixelData=bytes(70))
        dataset = in_bits(seg.made(image, seg.scattered(image)))
        path = written(
            dataset, tmp_path / "seg", ExplicitVRLittleEndian, dataset.PixelData + b"\0\0"
        )

        read = read_segmentation(path)

        (warning,) = read.warnings
        assert "Pixel Data is 2 bytes longer than its frames" in warning

    def test_cut_short_is_refused(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 4, Rows=5, Columns=7, PixelData=bytes(70))
        dataset = in_bits(seg.made(image, seg.scattered(image, 3), seg.targets))
        path = written(dataset, tmp_path / "seg", ExplicitVRLittleEndian, bytes(52))

        with pytest.raises(CorruptFileError, match="must hold 53 bytes of pixels; got 52"):
            read_segmentation(path)


class TestASlide:
    @pytest.mark.parametrize("pack", [without_gaps, each_in_bytes_of_its_own])
    def test_of_tiles_of_any_size_is_laid_together(
        self, seg: SimpleNamespace, tmp_path: Path, pack: Callable[[np.ndarray], bytes]
    ) -> None:
        truth = frames_of(1, 15, 21)[0]
        tiles = truth.reshape(3, 5, 3, 7).swapaxes(1, 2).reshape(9, 5, 7)
        dataset = slide_of(tiles, described(seg, 1))
        path = written(dataset, tmp_path / "seg", ExplicitVRLittleEndian, pack(tiles))

        read = read_segmentation(path)

        np.testing.assert_array_equal(read.mask(1), truth)


class TestOtherImages:
    def test_of_one_bit_are_decoded_frame_by_frame(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        frames = frames_of(6, 5, 7)
        stated = dicom.picture(
            0,
            MultiFrameSingleBitSecondaryCaptureImageStorage,
            NumberOfFrames=6,
            Rows=5,
            Columns=7,
            BitsAllocated=1,
            BitsStored=1,
            HighBit=0,
            PixelData=without_gaps(frames) + b"\0",
        )
        path = dicom.save(stated, tmp_path / "one_bit")

        found = list(PixelFile(str(path)).frames([1, 2, 5]))

        np.testing.assert_array_equal([frame for frame, _ in found], frames[[1, 2, 5]])
        assert {photometric for _, photometric in found} == {"MONOCHROME2"}


class TestLayout:
    @given(
        rows=st.integers(1, 12),
        columns=st.integers(1, 12),
        count=st.integers(1, 9),
        seed=st.integers(0, 99),
        is_even=st.booleans(),
    )
    def test_of_the_standard_comes_first(
        self, rows: int, columns: int, count: int, seed: int, is_even: bool
    ) -> None:
        frames = frames_of(count, rows, columns, seed)
        content = without_gaps(frames)
        content += bytes(len(content) % 2 if is_even else 0)

        layout = bit_layout(content, rows, columns, count)

        assert not layout.is_padded
        np.testing.assert_array_equal(list(unpacked_frames(content, layout, range(count))), frames)

    @given(
        rows=st.integers(1, 12),
        columns=st.integers(1, 12),
        count=st.integers(1, 40),
        seed=st.integers(0, 99),
        is_even=st.booleans(),
    )
    def test_of_frames_in_bytes_of_their_own_is_known_by_their_length(
        self, rows: int, columns: int, count: int, seed: int, is_even: bool
    ) -> None:
        frames = frames_of(count, rows, columns, seed)
        content = each_in_bytes_of_its_own(frames)
        content += bytes(len(content) % 2 if is_even else 0)

        layout = bit_layout(content, rows, columns, count)

        plain = len(without_gaps(frames))
        assert layout.is_padded == (len(content) > plain + plain % 2)
        if layout.is_padded:
            np.testing.assert_array_equal(
                list(unpacked_frames(content, layout, range(count))), frames
            )

    def test_ends_with_a_byte_of_any_value(self) -> None:
        frames = frames_of(7, 5, 7)
        content = without_gaps(frames) + b"0"  # highdicom 0.28 pads with the character

        layout = bit_layout(content, 5, 7, 7)

        np.testing.assert_array_equal(list(unpacked_frames(content, layout, range(7))), frames)

    def test_of_bytes_behind_the_frames_that_are_no_gaps_is_the_standard_s(self) -> None:
        frames = np.ones((9, 5, 7), np.uint8)
        content = without_gaps(frames) + bytes(5)
        assert len(content) == len(each_in_bytes_of_its_own(frames))

        assert not bit_layout(content, 5, 7, 9).is_padded

    def test_is_what_a_packer_writes(self) -> None:
        frames = frames_of(11, 5, 7)
        packer = PixelPacker(1)
        for frame in frames:
            packer.add(frame)

        content = packer.finish()

        layout = bit_layout(content, 5, 7, 11)
        np.testing.assert_array_equal(list(unpacked_frames(content, layout, range(11))), frames)


def _inflated(content: bytes) -> bytes:
    end = content.index(b"\x02\x00\x00\x00UL\x04\x00") + 8
    start = end + 4 + int.from_bytes(content[end : end + 4], "little")
    return content[:start] + zlib.decompress(content[start:], -zlib.MAX_WBITS)


def _deflated(content: bytes) -> bytes:
    end = content.index(b"\x02\x00\x00\x00UL\x04\x00") + 8
    start = end + 4 + int.from_bytes(content[end : end + 4], "little")
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return content[:start] + packer.compress(content[start:]) + packer.flush()
