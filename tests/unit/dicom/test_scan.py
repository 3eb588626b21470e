from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    UltrasoundMultiFrameImageStorage,
)

from esp_medsam.dicom import Found, find_volumes
from esp_medsam.dicom.scan import find_in_folders
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    InputNotFoundError,
)


SERIES = "1.2.3"


def refusal(found: Found) -> EspMedSamError:
    assert not found.volumes
    (entry,) = found.refused
    return entry[1]


class TestFindVolumes:
    def test_a_stack_is_one_volume_named_for_its_series(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path)

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

    def test_one_file_is_taken_alone(self, dicom: Any, tmp_path: Path) -> None:
        files = dicom.save_stack(tmp_path)

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
    def test_every_encoding_says_the_same(self, dicom: Any, tmp_path: Path, syntax: str) -> None:
        for k in range(2):
            dicom.save(dicom.dataset(k), tmp_path / f"{k}", syntax)

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.spatial_shape == (6, 4, 2)
        assert volume.slices[1].position == (10, 20, 2)

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    def test_files_without_preamble_are_read(self, dicom: Any, tmp_path: Path, syntax: str) -> None:
        for path in dicom.save_stack(tmp_path):
            dataset = dicom.dataset(int(path.stem))
            implicit = syntax == ImplicitVRLittleEndian
            dataset.save_as(path, implicit_vr=implicit, little_endian=True)

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.spatial_shape == (6, 4, 3)

    def test_foreign_files_are_others(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path)
        (tmp_path / "readme.txt").write_text("hello")
        (tmp_path / ".DS_Store").write_bytes(bytes(200))
        (tmp_path / "empty").touch()
        (tmp_path / "below").mkdir()
        dicom.save(dicom.dataset(7), tmp_path / "below" / "7.dcm")
        dicom.save(dicom.dataset(8, SegmentationStorage), tmp_path / "seg.dcm")
        dicom.save(dicom.dataset(9, RTDoseStorage), tmp_path / "dose.dcm")

        found = find_volumes(tmp_path)

        names = [Path(other).name for other in found.others]
        assert names == [".DS_Store", "dose.dcm", "empty", "readme.txt", "seg.dcm"]
        assert [volume.spatial_shape for volume in found.volumes] == [(6, 4, 3)]
        assert found.refused == ()

    def test_two_series_are_two_volumes(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path)
        for k in range(2):
            other = dicom.dataset(10 + k, SeriesInstanceUID="1.2.2", Rows=2, Columns=12)
            dicom.save(other, tmp_path / f"other{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.name for volume in volumes] == ["1.2.2", SERIES]

    def test_nothing_at_the_path_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match="there is none"):
            find_volumes(tmp_path / "gone")

    def test_echoes_of_one_series_are_volumes_with_names_of_their_own(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(6):
            place = [0, 0, k // 2]
            dataset = dicom.dataset(k, ImagePositionPatient=place, EchoNumbers=k % 2 + 1)
            dicom.save(dataset, tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.name for volume in volumes] == [
            f"{SERIES}_EchoNumbers-1",
            f"{SERIES}_EchoNumbers-2",
        ]
        assert volumes[1].split == (("EchoNumbers", "2"),)
        assert [volume.spatial_shape for volume in volumes] == [(6, 4, 3)] * 2

    def test_a_bad_slice_takes_its_stack_and_no_other(self, dicom: Any, tmp_path: Path) -> None:
        files = dicom.save_stack(tmp_path)
        dicom.save(dicom.dataset(9, SeriesInstanceUID="1.7"), tmp_path / "other.dcm")
        files[1].write_bytes(files[1].read_bytes()[:-10])

        found = find_volumes(tmp_path)

        assert [volume.name for volume in found.volumes] == ["1.7"]
        ((name, error),) = found.refused
        assert name == SERIES
        assert isinstance(error, CorruptFileError)
        assert str(files[1]) in str(error)

    def test_copies_of_one_instance_are_refused_by_name(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path)
        dicom.save(dicom.dataset(0), tmp_path / "copy.dcm")

        error = refusal(find_volumes(tmp_path))

        assert str(tmp_path / "0.dcm") in str(error)
        assert str(tmp_path / "copy.dcm") in str(error)

    def test_mixed_frames_of_reference_are_refused(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path)
        dicom.save(dicom.dataset(3, FrameOfReferenceUID="1.8"), tmp_path / "3.dcm")

        assert "one FrameOfReferenceUID" in str(refusal(find_volumes(tmp_path)))

    def test_no_message_tells_who_the_patient_is(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save(dicom.dataset(0, SeriesInstanceUID=""), tmp_path / "0.dcm")

        assert "Doe" not in str(refusal(find_volumes(tmp_path)))

    @pytest.mark.parametrize(
        ("creator", "tag", "vr", "values", "expected"),
        [
            ("SIEMENS MR HEADER", 0x0019000C, "IS", [0, 50, 1000], ["0", "1000", "50"]),
            ("Philips Imaging DD 001", 0x20010003, "FL", [0.0, 50.0, 1000.0], ["0", "1000", "50"]),
            ("GEMS_PARM_01", 0x00430039, "IS", [[0, 8], [50, 8]], ["0", "50"]),
            (
                "GEMS_PARM_01",
                0x00430039,
                "IS",
                [[0, 8], [10**9 + 400, 8], [10**9 + 1500, 8]],
                ["0", "1500", "400"],
            ),
        ],
    )
    def test_b_values_in_private_attributes_are_volumes(
        self,
        dicom: Any,
        tmp_path: Path,
        creator: str,
        tag: int,
        vr: str,
        values: list[Any],
        expected: list[str],
    ) -> None:
        for k in range(3 * len(values)):
            dataset = dicom.dataset(k, MRImageStorage, Modality="MR")
            dataset.ImagePositionPatient = [0, 0, k % 3]
            block = dataset.private_block(tag >> 16, creator, create=True)
            block.add_new(tag & 0xFF, vr, values[k // 3])
            dicom.save(dataset, tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.split for volume in volumes] == [(("DiffusionBValue", b),) for b in expected]
        assert [volume.spatial_shape for volume in volumes] == [(6, 4, 3)] * len(values)

    @pytest.mark.parametrize(
        ("attribute", "values"),
        [
            ("InversionTime", (100, 900)),
            ("FlipAngle", (15, 5)),
            ("NominalPercentageOfCardiacPhase", (0, 50)),
            ("ConvolutionKernel", ("B30f", "B70f")),
        ],
    )
    def test_what_was_set_or_computed_otherwise_is_a_volume(
        self, dicom: Any, tmp_path: Path, attribute: str, values: tuple[Any, Any]
    ) -> None:
        for k in range(6):
            changes = {attribute: values[k // 3], "ImagePositionPatient": [0, 0, k % 3]}
            dicom.save(dicom.dataset(k, InstanceNumber=1, **changes), tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.split for volume in volumes] == [((attribute, str(v)),) for v in values]


class TestFindInFolders:
    """A series may lie in several folders: half of it must never pass for the whole."""

    def test_a_stack_in_several_folders_is_one_volume(self, dicom: Any, tmp_path: Path) -> None:
        for k in range(6):  # each folder alone would be even, of twice the spacing
            folder = tmp_path / "study" / f"part{k % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            dicom.save(dicom.dataset(k), folder / f"{k}.dcm")
        (tmp_path / "study" / "part1" / "notes.txt").touch()
        folders = [tmp_path / "study" / f"part{k}" for k in range(2)]

        found = dict(find_in_folders(folders))

        (volume,) = found[tmp_path / "study"].volumes
        assert volume.name == SERIES
        assert [piece.source.sop_instance_uid for piece in volume.slices] == [
            f"1.2.3.{k + 1}" for k in range(6)
        ]
        assert volume.geometry.affine is not None
        assert volume.geometry.affine[2, 2] == 2
        assert [found[folder].volumes for folder in folders] == [(), ()]
        assert found[folders[1]].others == (str(folders[1] / "notes.txt"),)

    def test_other_series_and_pictures_stay_in_their_folders(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(2):
            (tmp_path / f"{k}").mkdir()
            own = dicom.dataset(k, SeriesInstanceUID=f"1.2.{k}", SOPInstanceUID=f"1.5.{k}")
            dicom.save(own, tmp_path / f"{k}" / "own")
            dicom.save(dicom.picture(k), tmp_path / f"{k}" / "picture")

        found = dict(find_in_folders([tmp_path / "0", tmp_path / "1"]))

        assert [[v.name for v in found[tmp_path / k].volumes] for k in "01"] == [
            ["1.2.0", f"{SERIES}.1"],
            ["1.2.1", f"{SERIES}.2"],
        ]

    def test_whole_copies_are_taken_each_and_parts_of_them_refused(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        folders = [tmp_path / name for name in ("copy", "first", "key_images")]
        for folder in folders:
            folder.mkdir()
        for folder, count in zip(folders, (3, 3, 1), strict=True):
            dicom.save_stack(folder, count)

        found = dict(find_in_folders(folders))

        assert [len(found[folder].volumes) for folder in folders] == [1, 1, 0]
        ((name, error),) = found[folders[2]].refused
        assert name == SERIES
        assert str(error).startswith(f"{folders[2]} must hold a whole series; it holds 1 of 3 ")

    def test_folders_that_overlap_are_refused_each(self, dicom: Any, tmp_path: Path) -> None:
        for name, numbers in (("a", (0, 1)), ("b", (1, 2))):
            (tmp_path / name).mkdir()
            for k in numbers:
                dicom.save(dicom.dataset(k), tmp_path / name / f"{k}")

        found = dict(find_in_folders([tmp_path / "a", tmp_path / "b"]))

        assert [(len(f.volumes), len(f.refused)) for f in found.values()] == [(0, 1), (0, 1)]

    def test_a_bad_file_in_one_folder_takes_the_stack_of_all(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(4):
            folder = tmp_path / f"{k // 2}"
            folder.mkdir(exist_ok=True)
            data = bytes(48 if k < 3 else 8)
            dicom.save(dicom.dataset(k, PixelData=data), folder / f"{k}")

        found = dict(find_in_folders([tmp_path / "0", tmp_path / "1"]))

        assert [held.volumes for held in found.values()] == [(), (), ()]
        ((_, error),) = found[tmp_path].refused
        assert f"{tmp_path / '1' / '3'} must hold 48 bytes of pixels" in str(error)


class TestPictures:
    def test_each_image_is_named_for_its_instance(self, dicom: Any, tmp_path: Path) -> None:
        for k in range(2):
            dicom.save(dicom.picture(k), tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.name for volume in volumes] == ["1.2.3.1", "1.2.3.2"]
        for volume in volumes:
            assert volume.spatial_shape == (4, 6)
            assert not volume.is_positioned
            assert volume.geometry.affine is None
            assert volume.geometry.stack_axis is None
            assert volume.geometry.pixel_spacing is None

    def test_cine_is_frames_in_time(self, dicom: Any, tmp_path: Path) -> None:
        cine = dicom.picture(
            0, UltrasoundMultiFrameImageStorage, NumberOfFrames=5, PixelData=bytes(5 * 48)
        )
        dicom.save(cine, tmp_path / "cine")

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
        self,
        dicom: Any,
        tmp_path: Path,
        attributes: dict[str, Any],
        spacing: tuple[float, float] | None,
    ) -> None:
        dicom.save(dicom.picture(0, SecondaryCaptureImageStorage, **attributes), tmp_path / "0")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.geometry.pixel_spacing == spacing

    @pytest.mark.parametrize(
        ("units", "spatial_format", "spacing"),
        [(3, 1, (0.2, 0.1)), (4, 1, None), (3, 3, None)],
    )
    def test_spacing_comes_from_a_calibrated_ultrasound_region(
        self,
        dicom: Any,
        tmp_path: Path,
        units: int,
        spatial_format: int,
        spacing: tuple[float, float] | None,
    ) -> None:
        region = dicom.item(
            RegionSpatialFormat=spatial_format,
            PhysicalUnitsXDirection=units,
            PhysicalUnitsYDirection=units,
            PhysicalDeltaX=0.01,
            PhysicalDeltaY=-0.02,
        )
        picture = dicom.picture(SequenceOfUltrasoundRegions=Sequence([region]))
        dicom.save(picture, tmp_path / "0")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.geometry.pixel_spacing == spacing

    def test_positions_of_a_secondary_capture_are_not_believed(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(2):
            dicom.save(dicom.dataset(k, SecondaryCaptureImageStorage), tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.spatial_shape for volume in volumes] == [(4, 6)] * 2

    def test_a_lone_ct_image_without_position_is_a_picture(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
        dicom.save(dicom.dataset(0, **nowhere), tmp_path / "0")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.spatial_shape == (4, 6)
        assert volume.geometry.pixel_spacing == (0.5, 0.75)
        assert "no position" in volume.warnings[0]


class TestEnhanced:
    def test_frames_are_slices_in_order_of_position(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save(dicom.enhanced([(0, 0, 4), (0, 0, 0), (0, 0, 2)]), tmp_path / "0")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.name == SERIES
        assert volume.spatial_shape == (6, 4, 3)
        assert [part.source.frame for part in volume.slices] == [2, 3, 1]
        assert volume.geometry.affine is not None
        assert volume.geometry.affine[:3, :3].tolist() == [[-0.75, 0, 0], [0, -0.5, 0], [0, 0, 2]]
        assert {(part.slope, part.intercept) for part in volume.slices} == {(3.0, 1.0)}

    def test_time_points_are_volumes(self, dicom: Any, tmp_path: Path) -> None:
        dataset = dicom.enhanced([(0, 0, z) for _ in range(3) for z in (0, 2)])
        for k, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            content = dicom.item(TemporalPositionIndex=k // 2 + 1)
            item.FrameContentSequence = Sequence([content])
        dicom.save(dataset, tmp_path / "0")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.split for volume in volumes] == [
            (("TemporalPositionIndex", str(t)),) for t in (1, 2, 3)
        ]
        assert [part.source.frame for part in volumes[1].slices] == [3, 4]

    def test_a_dimension_of_the_file_itself_tells_frames_apart(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        dataset = dicom.enhanced([(0, 0, z) for _ in range(2) for z in (0, 2)])
        dataset.DimensionIndexSequence = Sequence(
            [dicom.item(DimensionIndexPointer=tag) for tag in (0x00200032, 0x00189178)]
        )
        for k, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            content = dicom.item(DimensionIndexValues=[k % 2 + 1, k // 2 + 1])
            item.FrameContentSequence = Sequence([content])
        dicom.save(dataset, tmp_path / "0")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.split[0][1] for volume in volumes] == ["1", "2"]
        assert [volume.spatial_shape for volume in volumes] == [(6, 4, 2)] * 2

    def test_two_instances_of_a_series_are_two_volumes(self, dicom: Any, tmp_path: Path) -> None:
        for k in range(2):
            dataset = dicom.enhanced([(0, 0, z) for z in (0, 2)], SOPInstanceUID=f"1.5.{k}")
            dicom.save(dataset, tmp_path / f"{k}")

        names = [volume.name for volume in find_volumes(tmp_path).volumes]

        assert names == [f"{SERIES}_SOPInstanceUID-1.5.{k}" for k in range(2)]

    def test_parts_of_a_concatenation_are_one_volume(self, dicom: Any, tmp_path: Path) -> None:
        for k in range(2):
            positions = [(0.0, 0.0, 4.0 * k + z) for z in (0, 2)]
            dataset = dicom.enhanced(positions, SOPInstanceUID=f"1.5.{k}", ConcatenationUID="1.6")
            dicom.save(dataset, tmp_path / f"{k}")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.name == SERIES
        assert volume.spatial_shape == (6, 4, 4)

    def test_frames_that_nothing_describes_are_refused(self, dicom: Any, tmp_path: Path) -> None:
        dataset = dicom.enhanced([(0, 0, z) for z in (0, 2)])
        dataset.NumberOfFrames = 3
        dataset.PixelData = bytes(3 * 48)
        dicom.save(dataset, tmp_path / "0")

        assert "2 items for 3 frames" in str(refusal(find_volumes(tmp_path)))

    def test_a_multi_frame_mr_without_positions_is_refused(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        dataset = dicom.dataset(0, NumberOfFrames=2, PixelData=bytes(96))
        dicom.save(dataset, tmp_path / "0")

        assert "ImagePositionPatient" in str(refusal(find_volumes(tmp_path)))
