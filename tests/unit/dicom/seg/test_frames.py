from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from esp_medsam.dicom import read_segmentation


def cine(dicom: SimpleNamespace, folder: Path) -> Path:
    """An ultrasound cine of five frames of 4 x 6."""
    stated = dicom.picture(
        0, UltrasoundMultiFrameImageStorage, NumberOfFrames=5, PixelData=bytes(240)
    )
    return dicom.save(stated, folder / "cine.dcm")


def reference_of(group: Dataset) -> Dataset:
    """The image that a frame names as its source."""
    (derivation,) = group.DerivationImageSequence
    (source,) = derivation.SourceImageSequence
    return source


def position_of(group: Dataset) -> tuple[float, ...]:
    return tuple(map(float, group.PlanePositionSequence[0].ImagePositionPatient))


class TestPixels:
    def test_of_a_stack_are_those_of_each_slice(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 3)
        masks = seg.scattered(image, 3)

        found = seg.decoded(seg.reopened(seg.made(image, masks, seg.targets)), image)

        for expected, actual in zip(masks, found, strict=True):
            np.testing.assert_array_equal(actual, seg.as_stored(expected, image))
        assert found.shape == (3, 3, 4, 6)

    def test_of_a_cine_are_those_of_each_frame(
        self, seg: SimpleNamespace, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.record(cine(dicom, tmp_path))
        mask = seg.scattered(image)
        assert image.grid.shape == (4, 6, 5)
        mask[..., 2] = 0

        dataset = seg.made(image, mask)
        found = seg.decoded(seg.reopened(dataset), image)

        np.testing.assert_array_equal(found[0], mask[0].transpose(2, 0, 1))
        assert dataset.NumberOfFrames == 4
        assert [
            reference_of(group).ReferencedFrameNumber
            for group in dataset.PerFrameFunctionalGroupsSequence
        ] == [1, 2, 4, 5]

    @pytest.mark.parametrize(
        "sop_class", [SecondaryCaptureImageStorage, ComputedRadiographyImageStorage]
    )
    @pytest.mark.parametrize("frame_of_reference", ["1.9", None])
    def test_of_a_picture_need_no_position(
        self,
        seg: SimpleNamespace,
        dicom: SimpleNamespace,
        tmp_path: Path,
        sop_class: str,
        frame_of_reference: str | None,
    ) -> None:
        stated = dicom.picture(0, sop_class, FrameOfReferenceUID=frame_of_reference, Modality="OT")
        image = seg.record(dicom.save(stated, tmp_path / "picture"))
        mask = seg.scattered(image)

        dataset = seg.made(image, mask)

        np.testing.assert_array_equal(seg.decoded(seg.reopened(dataset), image)[0, 0], mask[0])
        assert dataset.get("FrameOfReferenceUID") == frame_of_reference
        assert "PlanePositionSequence" not in dataset.PerFrameFunctionalGroupsSequence[0]
        assert len(dataset.SharedFunctionalGroupsSequence[0]) == 0
        assert dataset.PatientOrientation is None

    def test_of_enhanced_frames_are_those_of_each_frame(
        self, seg: SimpleNamespace, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        positions = [(0.0, 0.0, 6.0), (0.0, 0.0, 2.0), (0.0, 0.0, 4.0)]
        image = seg.record(dicom.save(dicom.enhanced(positions), tmp_path / "enhanced"))
        mask = seg.scattered(image)

        dataset = seg.made(image, mask)

        np.testing.assert_array_equal(
            seg.decoded(seg.reopened(dataset), image)[0], seg.as_stored(mask[0], image)
        )
        placed = {
            int(reference_of(group).ReferencedFrameNumber): position_of(group)
            for group in dataset.PerFrameFunctionalGroupsSequence
        }
        assert placed == dict(enumerate(positions, start=1))

    @settings(
        max_examples=25,
        deadline=None,
        # The fixtures hold functions alone.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_belong_to_their_instance_however_files_are_named_turned_and_missing(
        self,
        seg: SimpleNamespace,
        tmp_path_factory: pytest.TempPathFactory,
        data: st.DataObject,
    ) -> None:
        image, headers = seg.drawn(data, tmp_path_factory.mktemp("stack"))
        masks = seg.scattered(image, data.draw(st.integers(1, 3)), data.draw(st.integers(0, 99)))

        dataset = seg.made(image, masks, seg.targets[: len(masks)], write_empty=True)

        found = seg.decoded(seg.reopened(dataset), image)
        filled = [seg.as_stored(mask, image) for mask in masks if mask.any()]
        np.testing.assert_array_equal(found, filled or np.zeros_like(found))
        positions = {header.SOPInstanceUID: header.ImagePositionPatient for header in headers}
        for group in dataset.PerFrameFunctionalGroupsSequence:
            uid = reference_of(group).ReferencedSOPInstanceUID
            np.testing.assert_allclose(position_of(group), positions[uid], atol=1e-9)
        orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
        np.testing.assert_allclose(
            orientation.ImageOrientationPatient, headers[0].ImageOrientationPatient, atol=1e-8
        )


class TestReferences:
    def test_name_every_instance_once(self, seg: SimpleNamespace, tmp_path: Path) -> None:
        image = seg.stack(tmp_path, 4)
        mask = np.zeros(image.grid.shape, np.uint8)
        mask[2, 3, 1] = 1

        dataset = seg.made(image, [mask])

        (series,) = dataset.ReferencedSeriesSequence
        named = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
        assert named == [f"1.2.3.{k}" for k in (1, 2, 3, 4)]
        assert series.SeriesInstanceUID == image.series_uid
        (group,) = dataset.PerFrameFunctionalGroupsSequence
        assert reference_of(group).ReferencedSOPInstanceUID == "1.2.3.2"
        assert "ReferencedFrameNumber" not in reference_of(group)

    def test_stand_alone_where_slices_share_no_frame_of_reference(
        self, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = seg.stack(tmp_path, 3, FrameOfReferenceUID=None)
        mask = seg.scattered(image)

        dataset = seg.made(image, mask)

        np.testing.assert_array_equal(
            seg.decoded(seg.reopened(dataset), image)[0], seg.as_stored(mask[0], image)
        )
        assert "FrameOfReferenceUID" not in dataset
        assert "PlanePositionSequence" not in dataset.PerFrameFunctionalGroupsSequence[0]


class TestPositions:
    def test_are_kept_where_slices_have_gaps(
        self, seg: SimpleNamespace, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        for k in (0, 1, 4):
            dicom.save(dicom.dataset(k), tmp_path / f"{9 - k}.dcm")
        image = seg.record(tmp_path)
        assert image.grid.affine is None

        dataset = seg.made(image, seg.scattered(image))

        groups = dataset.PerFrameFunctionalGroupsSequence
        assert [position_of(group)[2] for group in groups] == [0.0, 2.0, 8.0]
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        assert list(measures.PixelSpacing) == [0.5, 0.75]
        assert measures.SliceThickness == measures.SpacingBetweenSlices == 2

    def test_are_stated_by_each_frame_where_slices_are_turned_or_scaled_a_little(
        self, dicom: SimpleNamespace, seg: SimpleNamespace, tmp_path: Path
    ) -> None:
        turned = [[1, 0, 0, 0, 1, 0], [1, 0.0005, 0, -0.0005, 1, 0], [1, 0, 0, 0, 1, 0]]
        spacings = [[0.781, 0.781], [0.78125, 0.78125], [0.78125, 0.78125]]
        (tmp_path / "in").mkdir()
        for k in range(3):
            changes = {"ImageOrientationPatient": turned[k], "PixelSpacing": spacings[k]}
            dicom.save(dicom.dataset(k, **changes), tmp_path / "in" / f"{k}")
        image = seg.record(tmp_path / "in")
        mask = seg.scattered(image)

        dataset = seg.reopened(seg.made(image, mask))

        shared = dataset.SharedFunctionalGroupsSequence[0]
        assert "PlaneOrientationSequence" not in shared
        assert "PixelMeasuresSequence" not in shared
        for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            cosines = frame.PlaneOrientationSequence[0].ImageOrientationPatient
            np.testing.assert_allclose(cosines, turned[k], atol=1e-6)
            np.testing.assert_allclose(frame.PixelMeasuresSequence[0].PixelSpacing, spacings[k])
        np.testing.assert_array_equal(seg.decoded(dataset, image)[0], seg.as_stored(mask[0], image))
        read = read_segmentation(seg.saved(dataset, tmp_path / "seg"))
        assert read.grid.affine is None
        assert "differ in orientation (by 0.029 degrees) and PixelSpacing" in read.problem
        np.testing.assert_array_equal(read.mask(1), mask[0])

    @pytest.mark.parametrize(("count", "thickness"), [(1, 1.0), (2, 2.0)])
    def test_come_with_a_thickness_without_which_readers_fail(
        self, seg: SimpleNamespace, tmp_path: Path, count: int, thickness: float
    ) -> None:
        image = seg.stack(tmp_path, count, SliceThickness=None)

        dataset = seg.made(image, seg.scattered(image))

        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        assert measures.SliceThickness == thickness
