from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom.sequence import Sequence
from pydicom.uid import (
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from esp_medsam.dicom import find_volumes


SERIES = "1.2.3"


class TestPictures:
    def test_each_image_is_named_for_its_instance(self, dicom: Any, tmp_path: Path) -> None:
        for k in range(2):
            dicom.save(dicom.picture(k), tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.name for volume in volumes] == ["1.2.3.1", "1.2.3.2"]
        for volume in volumes:
            assert volume.grid.shape == (4, 6)
            assert not volume.grid.is_positioned
            assert volume.grid.affine is None
            assert volume.grid.stack_axis is None
            assert volume.grid.pixel_spacing is None

    def test_cine_is_frames_in_time(self, dicom: Any, tmp_path: Path) -> None:
        cine = dicom.picture(
            0, UltrasoundMultiFrameImageStorage, NumberOfFrames=5, PixelData=bytes(5 * 48)
        )
        dicom.save(cine, tmp_path / "cine")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.grid.shape == (4, 6, 5)
        assert volume.grid.stack_axis == 2
        assert volume.grid.affine is None
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

        assert volume.grid.pixel_spacing == spacing

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

        assert volume.grid.pixel_spacing == spacing

    def test_positions_of_a_secondary_capture_are_not_believed(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(2):
            dicom.save(dicom.dataset(k, SecondaryCaptureImageStorage), tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.grid.shape for volume in volumes] == [(4, 6)] * 2

    def test_a_lone_ct_image_without_position_is_a_picture(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        nowhere = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
        dicom.save(dicom.dataset(0, **nowhere), tmp_path / "0")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.grid.shape == (4, 6)
        assert volume.grid.pixel_spacing == (0.5, 0.75)
        assert "no position" in volume.warnings[0]


class TestEnhanced:
    def test_frames_are_slices_in_order_of_position(self, dicom: Any, tmp_path: Path) -> None:
        dicom.save(dicom.enhanced([(0, 0, 4), (0, 0, 0), (0, 0, 2)]), tmp_path / "0")

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.name == SERIES
        assert volume.grid.shape == (6, 4, 3)
        assert [part.source.frame for part in volume.slices] == [2, 3, 1]
        assert volume.grid.affine is not None
        assert volume.grid.affine[:3, :3].tolist() == [[-0.75, 0, 0], [0, -0.5, 0], [0, 0, 2]]
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
        assert [volume.grid.shape for volume in volumes] == [(6, 4, 2)] * 2

    @pytest.mark.parametrize("indexed", [True, False])
    def test_an_index_never_hides_the_value_that_it_numbers(
        self, dicom: Any, tmp_path: Path, indexed: bool
    ) -> None:
        """A slice a file: each calls its b-value number 1."""
        for z in range(6):
            dataset = dicom.enhanced([(0, 0, z)], SOPInstanceUID=f"1.5.{z}")
            (item,) = dataset.PerFrameFunctionalGroupsSequence
            b_value = dicom.item(DiffusionBValue=50.0 if z % 2 else 1000.0)
            item.MRDiffusionSequence = Sequence([b_value])
            item.FrameContentSequence = Sequence([dicom.item(DimensionIndexValues=[1])])
            if indexed:
                pointer = dicom.item(DimensionIndexPointer=0x00189087)
                dataset.DimensionIndexSequence = Sequence([pointer])
            dicom.save(dataset, tmp_path / f"{z}")

        volumes = find_volumes(tmp_path).volumes

        assert {volume.split: len(volume.slices) for volume in volumes} == {
            (("DiffusionBValue", "50"),): 3,
            (("DiffusionBValue", "1000"),): 3,
        }

    def test_a_slice_a_file_of_two_matrices_are_two_volumes(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(6):
            dataset = dicom.enhanced([(0, 0, k)], SOPInstanceUID=f"1.5.{k}")
            if k > 2:
                dataset.Rows *= 2
                dataset.PixelData = dataset.PixelData * 2
            dicom.save(dataset, tmp_path / f"{k}")

        found = find_volumes(tmp_path)

        assert not found.refused
        assert {volume.name: volume.grid.shape for volume in found.volumes} == {
            f"{SERIES}_SOPInstanceUID-1.5.0": (6, 4, 3),
            f"{SERIES}_SOPInstanceUID-1.5.3": (6, 8, 3),
        }

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
        assert volume.grid.shape == (6, 4, 4)

    def test_frames_that_nothing_describes_are_refused(self, dicom: Any, tmp_path: Path) -> None:
        dataset = dicom.enhanced([(0, 0, z) for z in (0, 2)])
        dataset.NumberOfFrames = 3
        dataset.PixelData = bytes(3 * 48)
        dicom.save(dataset, tmp_path / "0")

        assert "2 items for 3 frames" in str(dicom.refusal(find_volumes(tmp_path)))

    def test_a_multi_frame_mr_without_positions_is_refused(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        dataset = dicom.dataset(0, NumberOfFrames=2, PixelData=bytes(96))
        dicom.save(dataset, tmp_path / "0")

        assert "ImagePositionPatient" in str(dicom.refusal(find_volumes(tmp_path)))


class TestOneSliceAFile:
    """Enhanced images that a writer stored a slice a file."""

    def test_is_one_volume(self, dicom: Any, tmp_path: Path) -> None:
        for k in range(4):
            self.save(dicom, tmp_path / f"{k}", 2.0 * k, number=k)

        (volume,) = find_volumes(tmp_path).volumes

        assert volume.name == SERIES
        assert volume.grid.shape == (6, 4, 4)
        assert volume.grid.affine is not None
        assert [part.source.frame for part in volume.slices] == [None] * 4

    @pytest.mark.parametrize(
        ("sequence", "keyword", "values"),
        [
            ("MRModifierSequence", "InversionTimes", (120.0, 300.0, 900.0)),
            ("MREchoSequence", "EffectiveEchoTime", (10.0, 20.0, 30.0)),
            ("MRTimingAndRelatedParametersSequence", "FlipAngle", (3.0, 10.0, 20.0)),
            ("MRDiffusionSequence", "DiffusionBValue", (0.0, 50.0, 800.0)),
        ],
    )
    def test_holds_the_volumes_that_its_functional_groups_tell(
        self, dicom: Any, tmp_path: Path, sequence: str, keyword: str, values: tuple[float, ...]
    ) -> None:
        for k in range(12):
            group = {sequence: dicom.item(**{keyword: values[k // 4]})}
            self.save(dicom, tmp_path / f"{k}", 2.0 * (k % 4), number=k, **group)

        volumes = find_volumes(tmp_path).volumes

        assert {volume.name for volume in volumes} == {
            f"{SERIES}_{keyword}-{value:g}" for value in values
        }
        assert [volume.grid.shape for volume in volumes] == [(6, 4, 4)] * 3

    def test_holds_the_volumes_that_its_headers_tell(self, dicom: Any, tmp_path: Path) -> None:
        for k in range(8):
            header = {"AcquisitionNumber": 1 + k // 4}
            self.save(dicom, tmp_path / f"{k}", 2.0 * (k % 4), number=k, header=header)

        volumes = find_volumes(tmp_path).volumes

        assert [volume.split for volume in volumes] == [
            (("AcquisitionNumber", "1"),), (("AcquisitionNumber", "2"),),
        ]  # fmt: skip

    def test_a_file_of_all_times_of_one_slice_is_part_of_each_volume(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(3):
            dataset = dicom.enhanced([(0, 0, 2.0 * k)] * 2, SOPInstanceUID=f"1.2.3.{k + 1}")
            for time, item in enumerate(dataset.PerFrameFunctionalGroupsSequence):
                content = dicom.item(TemporalPositionIndex=time + 1)
                item.FrameContentSequence = Sequence([content])
            dicom.save(dataset, tmp_path / f"{k}")

        volumes = find_volumes(tmp_path).volumes

        assert [volume.grid.shape for volume in volumes] == [(6, 4, 3)] * 2

    def test_that_nothing_tells_apart_stays_a_volume_of_its_own(
        self, dicom: Any, tmp_path: Path
    ) -> None:
        for k in range(2):
            self.save(dicom, tmp_path / f"{k}", 0.0, number=k, header={"InstanceNumber": 1})

        found = find_volumes(tmp_path)

        assert found.refused == ()
        assert [volume.name for volume in found.volumes] == [
            f"{SERIES}_SOPInstanceUID-1.2.3.{k}" for k in (1, 2)
        ]

    @staticmethod
    def save(
        dicom: Any,
        path: Path,
        height: float,
        *,
        number: int,
        header: dict[str, Any] | None = None,
        **groups: Any,
    ) -> None:
        stated = {"SOPInstanceUID": f"1.2.3.{number + 1}", "InstanceNumber": number}
        dataset = dicom.enhanced([(0, 0, height)], **{**stated, **(header or {})})
        for sequence, item in groups.items():
            setattr(dataset.SharedFunctionalGroupsSequence[0], sequence, Sequence([item]))
        dicom.save(dataset, path)
