from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RTDoseStorage,
    SegmentationStorage,
)

from esp_medsam.dicom import find_volumes
from esp_medsam.errors import (
    CorruptFileError,
    InputNotFoundError,
    ReadError,
)


SERIES = "1.2.3"


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
        assert volume.grid.shape == (6, 4, 3)
        assert volume.grid.is_positioned
        assert volume.warnings == ()
        assert volume.grid.affine is not None
        np.testing.assert_array_equal(
            volume.grid.affine,
            [[-0.75, 0, 0, -10], [0, -0.5, 0, -20], [0, 0, 2, 0], [0, 0, 0, 1]],
        )
        assert [part.source.sop_instance_uid for part in volume.slices] == [
            "1.2.3.1",
            "1.2.3.2",
            "1.2.3.3",
        ]
        assert {(part.slope, part.intercept) for part in volume.slices} == {(2.0, -1024.0)}

    def test_a_path_that_the_system_refuses_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(ReadError, match=r"must be a folder that can be listed; got: File name"):
            find_volumes(tmp_path / ("a" * 300))

    @pytest.mark.parametrize(
        ("tag", "vr", "value"),
        [(0x00189089, "FD", [float("nan"), 0.0, 1.0]), (0x0019100E, "FD", [1.0])],
    )
    def test_a_direction_that_is_none_refuses_no_stack(
        self, dicom: Any, tmp_path: Path, tag: int, vr: str, value: list[float]
    ) -> None:
        for k in range(3):
            dataset = dicom.dataset(k)
            dataset.DiffusionBValue = 1000.0
            dataset.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
            dataset.add_new(0x0019100C, "IS", "1000")
            if tag == 0x0019100E:
                del dataset.DiffusionBValue
            dataset.add_new(tag, vr, value)
            dicom.save(dataset, tmp_path / f"{k}.dcm")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.grid.shape == (6, 4, 3)

    def test_one_file_is_taken_alone(self, dicom: Any, tmp_path: Path) -> None:
        files = dicom.save_stack(tmp_path)

        (volume,) = find_volumes(files[1]).volumes

        assert volume.grid.shape == (6, 4, 1)
        assert volume.grid.affine is not None
        assert volume.grid.affine[:3, 3].tolist() == [-10, -20, 2]
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

        assert volume.grid.shape == (6, 4, 2)
        assert volume.slices[1].position == (10, 20, 2)

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    def test_files_without_preamble_are_read(self, dicom: Any, tmp_path: Path, syntax: str) -> None:
        for path in dicom.save_stack(tmp_path):
            dataset = dicom.dataset(int(path.stem))
            implicit = syntax == ImplicitVRLittleEndian
            dataset.save_as(path, implicit_vr=implicit, little_endian=True)

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.grid.shape == (6, 4, 3)

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
        assert [volume.grid.shape for volume in found.volumes] == [(6, 4, 3)]
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
        assert [volume.grid.shape for volume in volumes] == [(6, 4, 3)] * 2

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

        error = dicom.refusal(find_volumes(tmp_path))

        assert str(tmp_path / "0.dcm") in str(error)
        assert str(tmp_path / "copy.dcm") in str(error)

    def test_mixed_frames_of_reference_are_refused(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path)
        dicom.save(dicom.dataset(3, FrameOfReferenceUID="1.8"), tmp_path / "3.dcm")

        assert "one FrameOfReferenceUID" in str(dicom.refusal(find_volumes(tmp_path)))

    def test_no_message_tells_who_the_patient_is(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save(dicom.dataset(0, SeriesInstanceUID=""), tmp_path / "0.dcm")

        assert "Doe" not in str(dicom.refusal(find_volumes(tmp_path)))

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
        assert [volume.grid.shape for volume in volumes] == [(6, 4, 3)] * len(values)

    @pytest.mark.parametrize(
        ("attribute", "values"),
        [
            ("InversionTime", (100, 900)),
            ("FlipAngle", (15, 5)),
            ("NominalPercentageOfCardiacPhase", (0, 50)),
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

    def test_text_is_told_by_its_rank_and_found_by_its_former_name(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(6):
            kernel = ("B100f Doe^Jane", "B30f")[k // 3]
            changes = {"ConvolutionKernel": kernel, "ImagePositionPatient": [0, 0, k % 3]}
            dicom.save(dicom.dataset(k, InstanceNumber=1, **changes), tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.name for volume in volumes] == [
            f"{SERIES}_ConvolutionKernel-1", f"{SERIES}_ConvolutionKernel-2",
        ]  # fmt: skip
        assert [volume.former_name for volume in volumes] == [
            f"{SERIES}_ConvolutionKernel-B30f", f"{SERIES}_ConvolutionKernel-B100f_Doe_Jane",
        ]  # fmt: skip
        assert [volume.split for volume in volumes] == [
            (("ConvolutionKernel", rank),) for rank in "12"
        ]
        assert "Doe" not in repr(volumes)

    def test_numbers_have_no_former_name(self, dicom: Any, tmp_path: Path) -> None:
        for k in range(4):
            changes = {"EchoTime": (5, 12.5)[k % 2], "ImagePositionPatient": [0, 0, k // 2]}
            dicom.save(dicom.dataset(k, **changes), tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.name for volume in volumes] == [
            f"{SERIES}_EchoTime-12.5", f"{SERIES}_EchoTime-5",
        ]  # fmt: skip
        assert [volume.former_name for volume in volumes] == ["", ""]
