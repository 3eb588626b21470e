from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from esp_medsam.dicom import Found, find_volumes, is_dicom
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    GeometryError,
    InputNotFoundError,
    TooLargeError,
)


SERIES = "1.2.3"


def make_dataset(number: int = 0, sop_class: str = CTImageStorage, **changes: Any) -> Dataset:
    """A 4 x 6 image, the ``number``-th of an even stack; attributes set to None are left out."""
    attributes: dict[str, Any] = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": f"1.2.3.{number + 1}",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": SERIES,
        "FrameOfReferenceUID": "1.9",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "InstanceNumber": number,
        "PatientName": "Doe^Jane",
        "ImagePositionPatient": [10, 20, 2.0 * number],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.75],
        "SliceThickness": 2,
        "RescaleSlope": 2,
        "RescaleIntercept": -1024,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": 4,
        "Columns": 6,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PixelData": np.arange(24, dtype=np.uint16).tobytes(),
        **changes,
    }
    dataset = Dataset()
    for keyword, value in attributes.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def make_picture(
    number: int = 0, sop_class: str = UltrasoundImageStorage, **changes: Any
) -> Dataset:
    nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}
    return make_dataset(number, sop_class, **{"Modality": "US", **nowhere, **changes})


def make_enhanced(positions: list[tuple[float, float, float]], **changes: Any) -> Dataset:
    """An enhanced MR of a frame at each position, in order."""
    frames = [_item(PlanePositionSequence=_item(ImagePositionPatient=list(p))) for p in positions]
    shared = _item(
        PlaneOrientationSequence=_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        PixelMeasuresSequence=_item(PixelSpacing=[0.5, 0.75], SliceThickness=2),
        PixelValueTransformationSequence=_item(RescaleSlope=3, RescaleIntercept=1),
    )
    return make_picture(
        sop_class=EnhancedMRImageStorage,
        Modality="MR",
        NumberOfFrames=len(positions),
        PixelData=bytes(48 * len(positions)),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
        SharedFunctionalGroupsSequence=Sequence([shared]),
        **changes,
    )


def _item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, Sequence([value]) if isinstance(value, Dataset) else value)
    return item


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if UID(syntax).is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path, enforce_file_format=True)
    return path


def save_stack(folder: Path, count: int = 3, **changes: Any) -> list[Path]:
    return [save(make_dataset(k, **changes), folder / f"{k}.dcm") for k in range(count)]


def raw_element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An explicit little endian element as it stands in a file; it may lie about its length."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return head + struct.pack("<HL", 0, size) + value
    return head + struct.pack("<H", size) + value


def with_text(path: Path, attribute: str, text: str) -> Path:
    """Overwrite the text of a DS or IS attribute in a file with whatever is asked for."""
    dataset = make_dataset()
    setattr(dataset, attribute, None)
    save(dataset, path)
    content = path.read_bytes()
    element = dataset[attribute]
    empty = raw_element(int(element.tag), element.VR.encode(), b"")
    padded = text.encode() + b" " * (len(text) % 2)
    filled = raw_element(int(element.tag), element.VR.encode(), padded)
    assert content.count(empty) == 1
    path.write_bytes(content.replace(empty, filled))
    return path


def refusal(found: Found) -> EspMedSamError:
    assert not found.volumes
    (entry,) = found.refused
    return entry[1]


class TestFindVolumes:
    def test_a_stack_is_one_volume_named_for_its_series(self, tmp_path: Path) -> None:
        save_stack(tmp_path)

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.name == SERIES
        assert volume.series_uid == SERIES
        assert volume.study_uid == "1.2"
        assert volume.frame_of_reference_uid == "1.9"
        assert volume.dicom_modality == "CT"
        assert volume.sop_class_uid == CTImageStorage
        assert volume.spatial_shape == (6, 4, 3)
        assert volume.is_positioned
        assert volume.warnings == ()
        assert volume.geometry.affine is not None
        np.testing.assert_array_equal(
            volume.geometry.affine,
            [[-0.75, 0, 0, -10], [0, -0.5, 0, -20], [0, 0, 2, 0], [0, 0, 0, 1]],
        )
        assert [part.source.sop_instance_uid for part in volume.slices] == [
            "1.2.3.1",
            "1.2.3.2",
            "1.2.3.3",
        ]
        assert {(part.slope, part.intercept) for part in volume.slices} == {(2.0, -1024.0)}

    def test_one_file_is_taken_alone(self, tmp_path: Path) -> None:
        files = save_stack(tmp_path)

        (volume,) = find_volumes(files[1]).volumes

        assert volume.spatial_shape == (6, 4, 1)
        assert volume.geometry.affine is not None
        assert volume.geometry.affine[:3, 3].tolist() == [-10, -20, 2]
        assert "SliceThickness" in volume.warnings[0]

    @pytest.mark.parametrize(
        "syntax",
        [
            ImplicitVRLittleEndian,
            ExplicitVRLittleEndian,
            ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian,
        ],
    )
    def test_every_encoding_says_the_same(self, tmp_path: Path, syntax: str) -> None:
        for k in range(2):
            save(make_dataset(k), tmp_path / f"{k}", syntax)

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.spatial_shape == (6, 4, 2)
        assert volume.slices[1].position == (10, 20, 2)

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    def test_files_without_preamble_are_read(self, tmp_path: Path, syntax: str) -> None:
        for path in save_stack(tmp_path):
            dataset = make_dataset(int(path.stem))
            implicit = syntax == ImplicitVRLittleEndian
            dataset.save_as(path, implicit_vr=implicit, little_endian=True)

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.spatial_shape == (6, 4, 3)

    def test_foreign_files_are_others(self, tmp_path: Path) -> None:
        save_stack(tmp_path)
        (tmp_path / "readme.txt").write_text("hello")
        (tmp_path / ".DS_Store").write_bytes(bytes(200))
        (tmp_path / "empty").touch()
        (tmp_path / "below").mkdir()
        save(make_dataset(7), tmp_path / "below" / "7.dcm")
        save(make_dataset(8, SegmentationStorage), tmp_path / "seg.dcm")
        save(make_dataset(9, RTDoseStorage), tmp_path / "dose.dcm")

        found = find_volumes(tmp_path)

        names = [Path(other).name for other in found.others]
        assert names == [".DS_Store", "dose.dcm", "empty", "readme.txt", "seg.dcm"]
        assert [volume.spatial_shape for volume in found.volumes] == [(6, 4, 3)]
        assert found.refused == ()

    def test_two_series_are_two_volumes(self, tmp_path: Path) -> None:
        save_stack(tmp_path)
        for k in range(2):
            other = make_dataset(10 + k, SeriesInstanceUID="1.2.2", Rows=2, Columns=12)
            save(other, tmp_path / f"other{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.name for volume in volumes] == ["1.2.2", SERIES]

    def test_nothing_at_the_path_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match="there is none"):
            find_volumes(tmp_path / "gone")

    def test_echoes_of_one_series_are_volumes_with_names_of_their_own(self, tmp_path: Path) -> None:
        for k in range(6):
            place = [0, 0, k // 2]
            dataset = make_dataset(k, ImagePositionPatient=place, EchoNumbers=k % 2 + 1)
            save(dataset, tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.name for volume in volumes] == [
            f"{SERIES}_EchoNumbers-1",
            f"{SERIES}_EchoNumbers-2",
        ]
        assert volumes[1].split == (("EchoNumbers", "2"),)
        assert [volume.spatial_shape for volume in volumes] == [(6, 4, 3)] * 2

    def test_a_bad_slice_takes_its_stack_and_no_other(self, tmp_path: Path) -> None:
        files = save_stack(tmp_path)
        save(make_dataset(9, SeriesInstanceUID="1.7"), tmp_path / "other.dcm")
        files[1].write_bytes(files[1].read_bytes()[:-10])

        found = find_volumes(tmp_path)

        assert [volume.name for volume in found.volumes] == ["1.7"]
        ((name, error),) = found.refused
        assert name == SERIES
        assert isinstance(error, CorruptFileError)
        assert str(files[1]) in str(error)

    def test_copies_of_one_instance_are_refused_by_name(self, tmp_path: Path) -> None:
        save_stack(tmp_path)
        save(make_dataset(0), tmp_path / "copy.dcm")

        error = refusal(find_volumes(tmp_path))

        assert str(tmp_path / "0.dcm") in str(error)
        assert str(tmp_path / "copy.dcm") in str(error)

    def test_mixed_frames_of_reference_are_refused(self, tmp_path: Path) -> None:
        save_stack(tmp_path)
        save(make_dataset(3, FrameOfReferenceUID="1.8"), tmp_path / "3.dcm")

        assert "one FrameOfReferenceUID" in str(refusal(find_volumes(tmp_path)))

    def test_no_message_tells_who_the_patient_is(self, tmp_path: Path) -> None:
        save(make_dataset(0, SeriesInstanceUID=""), tmp_path / "0.dcm")

        assert "Doe" not in str(refusal(find_volumes(tmp_path)))


class TestPictures:
    def test_each_image_is_named_for_its_instance(self, tmp_path: Path) -> None:
        for k in range(2):
            save(make_picture(k), tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.name for volume in volumes] == ["1.2.3.1", "1.2.3.2"]
        for volume in volumes:
            assert volume.spatial_shape == (4, 6)
            assert not volume.is_positioned
            assert volume.geometry.affine is None
            assert volume.geometry.stack_axis is None
            assert volume.geometry.pixel_spacing is None

    def test_cine_is_frames_in_time(self, tmp_path: Path) -> None:
        cine = make_picture(
            0, UltrasoundMultiFrameImageStorage, NumberOfFrames=5, PixelData=bytes(5 * 48)
        )
        save(cine, tmp_path / "cine")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.spatial_shape == (4, 6, 5)
        assert volume.geometry.stack_axis == 2
        assert volume.geometry.affine is None
        assert [part.source.frame for part in volume.slices] == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize(
        ("attributes", "spacing"),
        [
            ({"PixelSpacing": [1, 2], "ImagerPixelSpacing": [3, 4]}, (1, 2)),
            ({"ImagerPixelSpacing": [3, 4]}, (3, 4)),
            ({}, None),
        ],
    )
    def test_spacing_is_the_calibrated_one_first(
        self, tmp_path: Path, attributes: dict[str, Any], spacing: tuple[float, float] | None
    ) -> None:
        save(make_picture(0, SecondaryCaptureImageStorage, **attributes), tmp_path / "0")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.geometry.pixel_spacing == spacing

    @pytest.mark.parametrize(
        ("units", "spatial_format", "spacing"),
        [(3, 1, (0.2, 0.1)), (4, 1, None), (3, 3, None)],
    )
    def test_spacing_comes_from_a_calibrated_ultrasound_region(
        self,
        tmp_path: Path,
        units: int,
        spatial_format: int,
        spacing: tuple[float, float] | None,
    ) -> None:
        region = _item(
            RegionSpatialFormat=spatial_format,
            PhysicalUnitsXDirection=units,
            PhysicalUnitsYDirection=units,
            PhysicalDeltaX=0.01,
            PhysicalDeltaY=-0.02,
        )
        picture = make_picture(SequenceOfUltrasoundRegions=Sequence([region]))
        save(picture, tmp_path / "0")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.geometry.pixel_spacing == spacing

    def test_positions_of_a_secondary_capture_are_not_believed(self, tmp_path: Path) -> None:
        for k in range(2):
            save(make_dataset(k, SecondaryCaptureImageStorage), tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.spatial_shape for volume in volumes] == [(4, 6)] * 2

    def test_a_lone_ct_image_without_position_is_a_picture(self, tmp_path: Path) -> None:
        nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
        save(make_dataset(0, **nowhere), tmp_path / "0")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.spatial_shape == (4, 6)
        assert volume.geometry.pixel_spacing == (0.5, 0.75)
        assert "no position" in volume.warnings[0]


class TestEnhanced:
    def test_frames_are_slices_in_order_of_position(self, tmp_path: Path) -> None:
        save(make_enhanced([(0, 0, 4), (0, 0, 0), (0, 0, 2)]), tmp_path / "0")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.name == SERIES
        assert volume.spatial_shape == (6, 4, 3)
        assert [part.source.frame for part in volume.slices] == [2, 3, 1]
        assert volume.geometry.affine is not None
        assert volume.geometry.affine[:3, :3].tolist() == [[-0.75, 0, 0], [0, -0.5, 0], [0, 0, 2]]
        assert {(part.slope, part.intercept) for part in volume.slices} == {(3.0, 1.0)}

    def test_time_points_are_volumes(self, tmp_path: Path) -> None:
        dataset = make_enhanced([(0, 0, z) for _ in range(3) for z in (0, 2)])
        for k, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            content = _item(TemporalPositionIndex=k // 2 + 1)
            item.FrameContentSequence = Sequence([content])
        save(dataset, tmp_path / "0")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.split for volume in volumes] == [
            (("TemporalPositionIndex", str(t)),) for t in (1, 2, 3)
        ]
        assert [part.source.frame for part in volumes[1].slices] == [3, 4]

    def test_a_dimension_of_the_file_itself_tells_frames_apart(self, tmp_path: Path) -> None:
        dataset = make_enhanced([(0, 0, z) for _ in range(2) for z in (0, 2)])
        dataset.DimensionIndexSequence = Sequence(
            [_item(DimensionIndexPointer=tag) for tag in (0x00200032, 0x00189178)]
        )
        for k, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            content = _item(DimensionIndexValues=[k % 2 + 1, k // 2 + 1])
            item.FrameContentSequence = Sequence([content])
        save(dataset, tmp_path / "0")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.split[0][1] for volume in volumes] == ["1", "2"]
        assert [volume.spatial_shape for volume in volumes] == [(6, 4, 2)] * 2

    def test_two_instances_of_a_series_are_two_volumes(self, tmp_path: Path) -> None:
        for k in range(2):
            dataset = make_enhanced([(0, 0, z) for z in (0, 2)], SOPInstanceUID=f"1.5.{k}")
            save(dataset, tmp_path / f"{k}")

        names = [volume.name for volume in find_volumes(tmp_path).volumes]

        assert names == [f"{SERIES}_SOPInstanceUID-1.5.{k}" for k in range(2)]

    def test_parts_of_a_concatenation_are_one_volume(self, tmp_path: Path) -> None:
        for k in range(2):
            positions = [(0.0, 0.0, 4.0 * k + z) for z in (0, 2)]
            dataset = make_enhanced(positions, SOPInstanceUID=f"1.5.{k}", ConcatenationUID="1.6")
            save(dataset, tmp_path / f"{k}")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.name == SERIES
        assert volume.spatial_shape == (6, 4, 4)

    def test_frames_that_nothing_describes_are_refused(self, tmp_path: Path) -> None:
        dataset = make_enhanced([(0, 0, z) for z in (0, 2)])
        dataset.NumberOfFrames = 3
        dataset.PixelData = bytes(3 * 48)
        save(dataset, tmp_path / "0")

        assert "2 items for 3 frames" in str(refusal(find_volumes(tmp_path)))

    def test_a_multi_frame_mr_without_positions_is_refused(self, tmp_path: Path) -> None:
        dataset = make_dataset(0, NumberOfFrames=2, PixelData=bytes(96))
        save(dataset, tmp_path / "0")

        assert "ImagePositionPatient" in str(refusal(find_volumes(tmp_path)))


class TestBadHeaders:
    @pytest.mark.parametrize("text", ["1e999", "1,5", "NaN", "inf", "1_0", "0x10", "one"])
    @pytest.mark.parametrize("attribute", ["RescaleSlope", "RescaleIntercept"])
    def test_rescale_that_is_no_number_is_refused(
        self, tmp_path: Path, attribute: str, text: str
    ) -> None:
        path = with_text(tmp_path / "0", attribute, text)

        error = refusal(find_volumes(path))

        assert isinstance(error, FormatError)
        assert f"{attribute} (0028,105" in str(error)
        assert str(path) in str(error)

    def test_slope_of_zero_is_refused(self, tmp_path: Path) -> None:
        error = refusal(find_volumes(with_text(tmp_path / "0", "RescaleSlope", "0.0")))

        assert "must differ from 0" in str(error)

    def test_long_decimals_are_read(self, tmp_path: Path) -> None:
        path = with_text(tmp_path / "0", "RescaleSlope", "1.23456789012345678")

        (volume,) = find_volumes(path).volumes

        assert volume.slices[0].slope == 1.23456789012345678

    @pytest.mark.parametrize(
        ("attribute", "text"),
        [
            ("ImagePositionPatient", "1\\2"),
            ("ImagePositionPatient", "1\\2\\1e400"),
            ("ImagePositionPatient", "1\\2\\1e300"),
            ("ImagePositionPatient", "1,0\\2\\3"),
            ("ImageOrientationPatient", "1\\0\\0\\0\\1"),
            ("ImageOrientationPatient", "0\\0\\0\\0\\0\\0"),
            ("ImageOrientationPatient", "1\\0\\0\\1\\0\\0"),
            ("PixelSpacing", "0\\1"),
            ("PixelSpacing", "-1\\1"),
            ("PixelSpacing", "1"),
            ("PixelSpacing", "nan\\nan"),
            ("PixelSpacing", "9" * 400),
        ],
    )
    def test_geometry_that_is_none_is_refused(
        self, tmp_path: Path, attribute: str, text: str
    ) -> None:
        error = refusal(find_volumes(with_text(tmp_path / "0", attribute, text)))

        assert isinstance(error, GeometryError)
        assert attribute in str(error)
        assert len(str(error)) < 400

    @pytest.mark.parametrize(
        "attribute", ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Rows", "Columns"]
    )
    def test_what_cannot_be_done_without_is_named(self, tmp_path: Path, attribute: str) -> None:
        dataset = make_dataset()
        del dataset[attribute]
        dataset.save_as(tmp_path / "0", implicit_vr=False, little_endian=True)

        assert f"must state {attribute}" in str(refusal(find_volumes(tmp_path)))

    def test_files_without_a_series_are_refused_together(self, tmp_path: Path) -> None:
        save_stack(tmp_path, SeriesInstanceUID="")

        error = refusal(find_volumes(tmp_path))

        assert "must state SeriesInstanceUID" in str(error)
        assert "2 more files" in str(error)

    @pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2..3", "1." * 40 + "1", "hello"])
    def test_a_uid_that_is_none_is_refused(self, tmp_path: Path, uid: str) -> None:
        save(make_dataset(), tmp_path / "0")
        content = (tmp_path / "0").read_bytes()
        old = raw_element(0x0020000E, b"UI", b"1.2.3\0")
        new = raw_element(0x0020000E, b"UI", uid.encode() + b"\0" * (len(uid) % 2))
        (tmp_path / "0").write_bytes(content.replace(old, new))

        assert "must be a UID" in str(refusal(find_volumes(tmp_path)))

    def test_a_mosaic_is_refused(self, tmp_path: Path) -> None:
        save(make_dataset(0, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), tmp_path / "0")

        assert "mosaic" in str(refusal(find_volumes(tmp_path)))

    def test_a_header_that_claims_gigabytes_is_refused_without_holding_them(
        self, tmp_path: Path
    ) -> None:
        save(make_picture(Rows=65535, Columns=65535, NumberOfFrames=2**31 - 1), tmp_path / "0")

        error, most = measured(tmp_path)

        assert "got 48" in str(error)
        assert most < 2**22

    @pytest.mark.parametrize("tag", [0x00081140, 0x00280030, 0x52009230])
    @pytest.mark.parametrize("vr", [b"UN", b"OB", b"UT", b"SQ"])
    def test_an_element_that_claims_gigabytes_is_refused_without_holding_them(
        self, tmp_path: Path, tag: int, vr: bytes
    ) -> None:
        save(make_dataset(), tmp_path / "0")
        content = (tmp_path / "0").read_bytes()
        bomb = raw_element(tag, vr, b"abcd", length=0xFFFFFFF0)
        (tmp_path / "0").write_bytes(content[: content.index(b"\x28\x00\x02\x00")] + bomb)

        error, most = measured(tmp_path)

        assert isinstance(error, CorruptFileError | FormatError)
        assert most < 2**22

    def test_a_deep_nest_of_sequences_is_refused(self, tmp_path: Path) -> None:
        save(make_dataset(), tmp_path / "0")
        content = (tmp_path / "0").read_bytes()
        item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
        nest = (raw_element(0x00081140, b"SQ", b"", length=0xFFFFFFFF) + item) * 5000
        (tmp_path / "0").write_bytes(content[: content.index(b"\x20\x00\x0d\x00")] + nest)

        error, _ = measured(tmp_path)

        assert isinstance(error, CorruptFileError)
        assert "header is damaged" in str(error)

    def test_what_inflates_without_end_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.dicom.claims.MOST_INFLATED", 2**20)
        dataset = make_picture(Rows=2048, Columns=2048, PixelData=bytes(2**23))
        save(dataset, tmp_path / "0", DeflatedExplicitVRLittleEndian)

        error, most = measured(tmp_path)

        assert isinstance(error, TooLargeError)
        assert most < 2**26

    def test_a_damaged_deflated_file_is_refused(self, tmp_path: Path) -> None:
        path = save(make_dataset(), tmp_path / "0", DeflatedExplicitVRLittleEndian)
        content = path.read_bytes()
        path.write_bytes(content[:-120] + bytes(100))

        assert isinstance(refusal(find_volumes(path)), CorruptFileError)

    def test_video_is_refused_by_its_name(self, tmp_path: Path) -> None:
        cine = make_picture(
            0, UltrasoundMultiFrameImageStorage, NumberOfFrames=2, PixelData=encapsulate([b"mpeg"])
        )
        save(cine, tmp_path / "0", MPEG2MPML)

        assert "video (MPEG2" in str(refusal(find_volumes(tmp_path)))

    def test_compressed_frames_must_all_be_there(self, tmp_path: Path) -> None:
        cine = make_picture(
            0,
            UltrasoundMultiFrameImageStorage,
            NumberOfFrames=3,
            PixelData=encapsulate([b"ab", b"cd"]),
        )
        save(cine, tmp_path / "0", JPEG2000Lossless)

        assert "3 compressed frames; got 2" in str(refusal(find_volumes(tmp_path)))

    def test_compressed_pixels_that_are_cut_short_are_refused(self, tmp_path: Path) -> None:
        dataset = make_dataset(0, PixelData=encapsulate([bytes(400)]))
        path = save(dataset, tmp_path / "0", JPEG2000Lossless)
        path.write_bytes(path.read_bytes()[:-100])

        assert "cut short" in str(refusal(find_volumes(tmp_path)))

    def test_endless_empty_fragments_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.dicom.claims._FRAGMENTS", 100)
        dataset = make_dataset(0, PixelData=encapsulate([b"ab"]))
        path = save(dataset, tmp_path / "0", JPEG2000Lossless)
        empty = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
        path.write_bytes(path.read_bytes()[:-8] + empty * 1000)

        assert "empty pieces" in str(refusal(find_volumes(tmp_path)))

    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(data=st.data())
    def test_a_damaged_file_is_read_or_refused_and_nothing_else(
        self, tmp_path: Path, data: st.DataObject
    ) -> None:
        make: Callable[[], Dataset] = data.draw(
            st.sampled_from([make_dataset, make_picture, lambda: make_enhanced([(0, 0, 0)] * 2)])
        )
        syntax = data.draw(st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
        content = bytearray(save(make(), tmp_path / "0", syntax).read_bytes())
        for _ in range(data.draw(st.integers(0, 6))):
            content[data.draw(st.integers(128, len(content) - 1))] = data.draw(st.integers(0, 255))
        kept = data.draw(st.integers(0, len(content)))
        (tmp_path / "0").write_bytes(content[: kept if data.draw(st.booleans()) else None])

        found = find_volumes(tmp_path)

        assert len(found.volumes) + len(found.refused) + len(found.others) >= 1


def measured(folder: Path) -> tuple[EspMedSamError, int]:
    """Return why the file in a folder is refused, and the most memory held to find out."""
    tracemalloc.start()
    error = refusal(find_volumes(folder))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return error, most


class TestIsDicom:
    def test_the_magic_word_is_enough(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bytes(128) + b"DICM")

        assert is_dicom(tmp_path / "a")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"DICM",
            bytes(400),
            b"hello world, this is a text file",
            b"\x08\x00",
            b"\x5c\x01" * 99,
        ],
    )
    def test_other_files_are_none(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a").write_bytes(content)

        assert not is_dicom(tmp_path / "a")

    def test_a_folder_is_none(self, tmp_path: Path) -> None:
        assert not is_dicom(tmp_path)
        assert not is_dicom(tmp_path / "gone")
