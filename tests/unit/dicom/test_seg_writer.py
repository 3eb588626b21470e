from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from esp_medsam.dicom import find_volumes
from esp_medsam.dicom.seg_writer import build_segmentation, write_segmentation
from esp_medsam.errors import (
    CorruptFileError,
    FormatError,
    GeometryError,
    InputNotFoundError,
    OptionError,
    OutputError,
    TableError,
)
from esp_medsam.image import Image
from esp_medsam.modality import Code, Target


SHA = "5e" * 32
LIVER = Target(
    name="liver",
    label=3,
    category=Code("91723000", "SCT", "Anatomical Structure"),
    type=Code("10200004", "SCT", "Liver"),
    color=(221, 130, 101),
)
TUMOR = Target(
    name="tumor",
    label=7,
    category=Code("49755003", "SCT", "Morphologically Abnormal Structure"),
    type=Code("108369006", "SCT", "Neoplasm"),
    color=(0, 0, 255),
    anatomic_region=Code("10200004", "SCT", "Liver"),
)
LESION = Target(
    name="lesion",
    label=1,
    category=TUMOR.category,
    type=Code("52988006", "SCT", "Lesion"),
    color=(1, 2, 3),
)
TARGETS = (LIVER, TUMOR, LESION)


def record(path: Path, **changes: Any) -> Image:
    """The record of the one volume at a path, as the loader makes it, without pixels."""
    (volume,) = find_volumes(path).volumes
    attributes: dict[str, Any] = {
        "path": str(path),
        "name": volume.name,
        "modality": "ct",
        "spatial_shape": volume.spatial_shape,
        "affine": volume.geometry.affine,
        "slice_affines": volume.geometry.slice_affines,
        "stack_axis": volume.geometry.stack_axis,
        "pixel_spacing": volume.geometry.pixel_spacing,
        "sources": tuple(piece.source for piece in volume.slices),
        "study_uid": volume.study_uid,
        "series_uid": volume.series_uid,
        **changes,
    }
    return Image(**attributes)


def scattered(image: Image, count: int = 1, seed: int = 0) -> np.ndarray:
    """Masks without any symmetry, one for each target."""
    shape = (count, *image.spatial_shape)
    return (np.random.default_rng(seed).random(shape) > 0.6).astype(np.uint8)


def made(image: Image, masks: Any, targets: Any = (LIVER,), **options: Any) -> Dataset:
    dataset = build_segmentation(
        image, masks, targets, weights_sha256=SHA, version="1.2.3", **options
    )
    assert dataset is not None
    return dataset


def bytes_of(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    write_segmentation(dataset, file)
    return file.getvalue()


def reopened(dataset: Dataset) -> hd.seg.Segmentation:
    """The object as highdicom reads its file."""
    return hd.seg.segread(io.BytesIO(bytes_of(dataset)))


def as_stored(mask: np.ndarray, image: Image) -> np.ndarray:
    """A mask in the order of its images: ``(frames, rows, columns)``."""
    if mask.ndim == 2:
        return mask[None]
    return mask.transpose(2, 1, 0) if image.slice_affines is not None else mask.transpose(2, 0, 1)


def decoded(segmentation: hd.seg.Segmentation, image: Image, **options: Any) -> np.ndarray:
    """What highdicom finds for each source: ``(targets, frames, rows, columns)``."""
    if image.sources[0].frame is None:
        pixels = segmentation.get_pixels_by_source_instance(
            [source.sop_instance_uid for source in image.sources],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
            **options,
        )
    else:
        pixels = segmentation.get_pixels_by_source_frame(
            image.sources[0].sop_instance_uid,
            [source.frame for source in image.sources],
            ignore_spatial_locations=True,
            assert_missing_frames_are_empty=True,
            **options,
        )
    return np.moveaxis(pixels, -1, 0)


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


def axes(angles: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three unit vectors at right angles, right-handed, turned by angles about x, y and z."""
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        turned = turn @ turned
    return turned[0], turned[1], np.cross(turned[0], turned[1])


class TestPixels:
    def test_of_a_stack_are_those_of_each_slice(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dicom.save_stack(tmp_path, 3)
        image = record(tmp_path)
        masks = scattered(image, 3)

        found = decoded(reopened(made(image, masks, TARGETS)), image)

        for expected, actual in zip(masks, found, strict=True):
            np.testing.assert_array_equal(actual, as_stored(expected, image))
        assert found.shape == (3, 3, 4, 6)

    def test_of_frames_of_any_number_of_bits_follow_each_other(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dicom.save_stack(tmp_path, 3, Rows=5, Columns=7, PixelData=bytes(70))
        image = record(tmp_path)
        masks = scattered(image, 3)

        dataset = made(image, masks, TARGETS)

        assert len(dataset.PixelData) == 40  # 9 frames of 35 bits, and one byte to be even
        np.testing.assert_array_equal(
            decoded(reopened(dataset), image), [as_stored(mask, image) for mask in masks]
        )

    def test_of_a_cine_are_those_of_each_frame(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        image = record(cine(dicom, tmp_path))
        mask = scattered(image)
        assert image.spatial_shape == (4, 6, 5)
        mask[..., 2] = 0

        dataset = made(image, mask)
        found = decoded(reopened(dataset), image)

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
        dicom: SimpleNamespace,
        tmp_path: Path,
        sop_class: str,
        frame_of_reference: str | None,
    ) -> None:
        stated = dicom.picture(0, sop_class, FrameOfReferenceUID=frame_of_reference, Modality="OT")
        image = record(dicom.save(stated, tmp_path / "picture"))
        mask = scattered(image)

        dataset = made(image, mask)

        np.testing.assert_array_equal(decoded(reopened(dataset), image)[0, 0], mask[0])
        assert dataset.get("FrameOfReferenceUID") == frame_of_reference
        assert "PlanePositionSequence" not in dataset.PerFrameFunctionalGroupsSequence[0]
        assert len(dataset.SharedFunctionalGroupsSequence[0]) == 0
        assert dataset.PatientOrientation is None

    def test_of_enhanced_frames_are_those_of_each_frame(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        positions = [(0.0, 0.0, 6.0), (0.0, 0.0, 2.0), (0.0, 0.0, 4.0)]
        image = record(dicom.save(dicom.enhanced(positions), tmp_path / "enhanced"))
        mask = scattered(image)

        dataset = made(image, mask)

        np.testing.assert_array_equal(
            decoded(reopened(dataset), image)[0], as_stored(mask[0], image)
        )
        placed = {
            int(reference_of(group).ReferencedFrameNumber): position_of(group)
            for group in dataset.PerFrameFunctionalGroupsSequence
        }
        assert placed == dict(enumerate(positions, start=1))

    def test_may_overlap(self, dicom: SimpleNamespace, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path, 2)
        image = record(tmp_path)
        first, second = np.zeros((2, 6, 4, 2), np.uint8)
        first[:3] = 1
        second[2:] = 1

        overlapping = made(image, [first, second], TARGETS[:2])
        apart = made(image, [first, 1 - first], TARGETS[:2])

        np.testing.assert_array_equal(
            decoded(reopened(overlapping), image),
            [as_stored(first, image), as_stored(second, image)],
        )
        assert (overlapping.SegmentsOverlap, apart.SegmentsOverlap) == ("YES", "NO")

    def test_of_probabilities_are_kept_as_they_are(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dicom.save_stack(tmp_path, 2, Rows=5, Columns=7, PixelData=bytes(70))
        image = record(tmp_path)
        values = np.random.default_rng(0).integers(0, 256, (2, *image.spatial_shape), np.uint8)

        dataset = made(image, values, TARGETS[:2], kind="fractional")

        found = decoded(reopened(dataset), image, rescale_fractional=False)
        np.testing.assert_array_equal(found, [as_stored(value, image) for value in values])
        assert dataset.SegmentationFractionalType == "PROBABILITY"
        assert dataset.MaximumFractionalValue == 255

    def test_of_a_labelmap_are_the_table_s_labels(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dicom.save_stack(tmp_path, 3)
        image = record(tmp_path)
        labelmap = scattered(image)[0] * np.uint8(7)
        labelmap[0] = 3
        labelmap[..., 1] = 0

        dataset = made(image, [labelmap], TARGETS, kind="labelmap")

        segmentation = reopened(dataset)
        assert list(segmentation.segment_numbers) == [3, 7]  # nothing of the third
        np.testing.assert_array_equal(segmentation.pixel_array, as_stored(labelmap, image)[[0, 2]])
        np.testing.assert_array_equal(
            decoded(segmentation, image), [as_stored(labelmap == n, image) for n in (3, 7)]
        )

    @settings(
        max_examples=25,
        deadline=None,
        # The fixture holds functions alone.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    @given(data=st.data())
    def test_belong_to_their_instance_however_files_are_named_turned_and_missing(
        self,
        dicom: SimpleNamespace,
        tmp_path_factory: pytest.TempPathFactory,
        data: st.DataObject,
    ) -> None:
        folder = tmp_path_factory.mktemp("stack")
        count = data.draw(st.integers(1, 6))
        kept = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
        names = data.draw(st.permutations(range(count)))
        across, down, normal = axes(data.draw(st.tuples(*[st.floats(-3.1, 3.1)] * 3)))
        gap = data.draw(st.sampled_from([-2.5, 0.7, 3.0]))
        positions = {}
        for number in kept:
            positions[f"1.2.3.{number + 1}"] = place = (gap * number * normal).round(6).tolist()
            stated = dicom.dataset(
                number,
                ImagePositionPatient=place,
                ImageOrientationPatient=[*across.round(9), *down.round(9)],
            )
            dicom.save(stated, folder / f"{names[number]}.dcm")
        image = record(folder)
        masks = scattered(image, data.draw(st.integers(1, 3)), data.draw(st.integers(0, 99)))

        dataset = made(image, masks, TARGETS[: len(masks)], write_empty=True)

        found = decoded(reopened(dataset), image)
        filled = [as_stored(mask, image) for mask in masks if mask.any()]
        np.testing.assert_array_equal(found, filled or np.zeros_like(found))
        for group in dataset.PerFrameFunctionalGroupsSequence:
            uid = reference_of(group).ReferencedSOPInstanceUID
            np.testing.assert_allclose(position_of(group), positions[uid], atol=1e-9)
        orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
        np.testing.assert_allclose(orientation.ImageOrientationPatient, [*across, *down], atol=1e-8)


class TestReferences:
    def test_name_every_instance_once(self, dicom: SimpleNamespace, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path, 4)
        image = record(tmp_path)
        mask = np.zeros(image.spatial_shape, np.uint8)
        mask[2, 3, 1] = 1

        dataset = made(image, [mask])

        (series,) = dataset.ReferencedSeriesSequence
        named = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
        assert named == [f"1.2.3.{k}" for k in (1, 2, 3, 4)]
        assert series.SeriesInstanceUID == image.series_uid
        (group,) = dataset.PerFrameFunctionalGroupsSequence
        assert reference_of(group).ReferencedSOPInstanceUID == "1.2.3.2"
        assert "ReferencedFrameNumber" not in reference_of(group)

    def test_and_positions_are_kept_where_slices_have_gaps(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        for k in (0, 1, 4):
            dicom.save(dicom.dataset(k), tmp_path / f"{9 - k}.dcm")
        image = record(tmp_path)
        assert image.affine is None

        dataset = made(image, scattered(image))

        groups = dataset.PerFrameFunctionalGroupsSequence
        assert [position_of(group)[2] for group in groups] == [0.0, 2.0, 8.0]
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        assert list(measures.PixelSpacing) == [0.5, 0.75]
        assert measures.SliceThickness == measures.SpacingBetweenSlices == 2

    def test_stand_alone_where_slices_share_no_frame_of_reference(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dicom.save_stack(tmp_path, 3, FrameOfReferenceUID=None)
        image = record(tmp_path)
        mask = scattered(image)

        dataset = made(image, mask)

        np.testing.assert_array_equal(
            decoded(reopened(dataset), image)[0], as_stored(mask[0], image)
        )
        assert "FrameOfReferenceUID" not in dataset
        assert "PlanePositionSequence" not in dataset.PerFrameFunctionalGroupsSequence[0]

    @pytest.mark.parametrize(("count", "thickness"), [(1, 1.0), (2, 2.0)])
    def test_come_with_a_thickness_without_which_readers_fail(
        self, dicom: SimpleNamespace, tmp_path: Path, count: int, thickness: float
    ) -> None:
        dicom.save_stack(tmp_path, count, SliceThickness=None)
        image = record(tmp_path)

        dataset = made(image, scattered(image))

        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        assert measures.SliceThickness == thickness


class TestSegments:
    def test_are_coded_as_the_table_says(self, dicom: SimpleNamespace, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path, 1)
        image = record(tmp_path)

        liver, tumor = reopened(made(image, scattered(image, 2), TARGETS[:2])).SegmentSequence

        assert (liver.SegmentNumber, tumor.SegmentNumber) == (1, 2)
        assert (liver.segment_label, tumor.segment_label) == ("liver", "tumor")
        assert tumor.segmented_property_category.value == "49755003"
        assert tumor.segmented_property_type.meaning == "Neoplasm"
        assert [region.value for region in tumor.anatomic_regions] == ["10200004"]
        assert "AnatomicRegionSequence" not in liver
        assert tumor.SegmentAlgorithmType == "AUTOMATIC"
        color = hd.color.CIELabColor.from_dicom_value(tumor.RecommendedDisplayCIELabValue)
        np.testing.assert_allclose(color.to_rgb(), TUMOR.color, atol=2)

    def test_say_which_algorithm_and_weights_made_them(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dicom.save_stack(tmp_path, 1)
        image = record(tmp_path)

        dataset = made(image, scattered(image), settings={"input_size": [64, 64]})

        (segment,) = dataset.SegmentSequence
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert segment.SegmentAlgorithmName == algorithm.AlgorithmName == "esp-medsam"
        assert algorithm.AlgorithmVersion == dataset.SoftwareVersions == "1.2.3"
        assert algorithm.AlgorithmParameters == f"weights_sha256={SHA},input_size=[64,64]"

    def test_leave_out_settings_too_long_to_state(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dicom.save_stack(tmp_path, 1)
        image = record(tmp_path)

        dataset = made(image, scattered(image), settings={"transforms": "x" * 11_000})

        (algorithm,) = dataset.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmParameters == f"weights_sha256={SHA}"

    @pytest.mark.parametrize(("kind", "value"), [("binary", 0), ("fractional", 127)])
    def test_without_foreground_are_left_out(
        self, dicom: SimpleNamespace, tmp_path: Path, kind: str, value: int
    ) -> None:
        dicom.save_stack(tmp_path, 2)
        image = record(tmp_path)
        masks = np.full((3, *image.spatial_shape), value, np.uint8)
        masks[2, 1, 1, 1] = 1 if kind == "binary" else 128

        dataset = made(image, masks, TARGETS, kind=kind)

        (segment,) = dataset.SegmentSequence
        assert (segment.SegmentNumber, segment.SegmentLabel) == (1, "lesion")


class TestEmptyMasks:
    @pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
    def test_make_no_object(self, dicom: SimpleNamespace, tmp_path: Path, kind: str) -> None:
        dicom.save_stack(tmp_path, 2)
        image = record(tmp_path)

        masks = np.zeros((3, *image.spatial_shape), np.uint8)

        assert build_segmentation(image, masks, TARGETS, kind=kind) is None

    @pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
    def test_make_one_that_opens_where_it_is_asked_for(
        self, dicom: SimpleNamespace, tmp_path: Path, kind: str
    ) -> None:
        dicom.save_stack(tmp_path, 2)
        image = record(tmp_path)
        masks = np.zeros((3, *image.spatial_shape), np.uint8)

        dataset = made(image, masks, TARGETS, kind=kind, write_empty=True)

        segmentation = reopened(dataset)
        assert not decoded(segmentation, image).any()
        assert len(segmentation.segment_numbers) == 3
        assert segmentation.NumberOfFrames == (1 if kind == "labelmap" else 3)


class TestIdentity:
    def test_is_new_each_time(self, dicom: SimpleNamespace, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path, 1)
        image = record(tmp_path)

        first, second = (made(image, scattered(image)) for _ in range(2))

        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            assert first[keyword].value != second[keyword].value
        assert first.SeriesInstanceUID != image.series_uid

    def test_is_the_same_byte_for_byte_where_it_is_fixed(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        images = []
        for name in ("here", "there"):
            (tmp_path / name).mkdir()
            dicom.save_stack(tmp_path / name, 2, StudyDate="20200131", StudyTime="101112.5")
            images.append(record(tmp_path / name))

        first, second = (made(image, scattered(image), fixed=True) for image in images)

        assert bytes_of(first) == bytes_of(second)
        assert (first.ContentDate, first.ContentTime) == ("20200131", "101112")

    def test_has_a_date_though_the_study_has_none(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dicom.save_stack(tmp_path, 1, StudyTime="101112")
        image = record(tmp_path)

        dataset = made(image, scattered(image), fixed=True)

        assert (dataset.ContentDate, dataset.ContentTime) == ("20000101", "000000")

    def test_follows_from_sources_weights_settings_targets_and_kind(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dicom.save_stack(tmp_path, 2)
        image = record(tmp_path)
        fewer = record(tmp_path / "0.dcm")

        def uid(image: Image, **options: Any) -> str:
            chosen = {"targets": (LIVER,), "weights_sha256": SHA, "settings": {}, **options}
            dataset = build_segmentation(image, scattered(image) * 255, fixed=True, **chosen)
            assert dataset is not None
            return str(dataset.SOPInstanceUID)

        uids = {
            uid(image),
            uid(fewer),
            uid(image, weights_sha256="ab" * 32),
            uid(image, settings={"amp": True}),
            uid(image, targets=(TUMOR,)),
            uid(image, kind="fractional"),
        }

        assert len(uids) == 6
        assert uid(image) in uids
        assert all(value.startswith("2.25.") and len(value) <= 64 for value in uids)


class TestPatientAndStudy:
    def test_are_those_of_the_source_and_nothing_else_is_taken(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        taken = {
            "PatientName": "Doe^Jane", "PatientID": "17", "PatientBirthDate": "19700101",
            "PatientSex": "F", "StudyDate": "20200101", "StudyTime": "1200", "StudyID": "S",
            "AccessionNumber": "A", "ReferringPhysicianName": "Roe^R",
        }  # fmt: skip
        left = {
            "PatientAge": "050Y", "PatientWeight": "70", "OtherPatientIDs": "18",
            "PatientComments": "x", "InstitutionName": "x", "StudyDescription": "x",
            "OperatorsName": "x", "SeriesDescription": "x", "ProtocolName": "x",
            "ResponsiblePerson": "x", "PatientOrientation": ["L", "P"],
        }  # fmt: skip
        dicom.save_stack(tmp_path, 1, **taken, **left)
        image = record(tmp_path)

        dataset = made(image, scattered(image))

        assert {keyword: str(dataset[keyword].value) for keyword in taken} == taken
        assert dataset.StudyInstanceUID == "1.2"
        assert dataset.SeriesDescription == "esp-medsam ct segmentation"
        assert not {element.keyword for element in dataset} & (set(left) - {"SeriesDescription"})

    def test_are_there_and_empty_where_the_source_lacks_them(
        self, dicom: SimpleNamespace, tmp_path: Path
    ) -> None:
        dicom.save_stack(tmp_path, 1, PatientName=None)
        image = record(tmp_path)

        dataset = dcmread(io.BytesIO(bytes_of(made(image, scattered(image)))))

        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyID"):
            assert not dataset[keyword].value

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    def test_are_handed_on_byte_for_byte(
        self,
        dicom: SimpleNamespace,
        tmp_path: Path,
        syntax: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        stated = dicom.dataset(
            SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎"
        )
        path = dicom.save(stated, tmp_path / "a.dcm", syntax)
        # What no reader takes for a sex or a date must not end, nor appear in, anything.
        content = path.read_bytes()
        path.write_bytes(content.replace(b"Yamada^Tarou", b"Canary^\xff\xfe?--"))
        image = record(path)

        written = bytes_of(made(image, scattered(image)))

        assert dcmread(io.BytesIO(written)).get_item("PatientName").value == (
            dcmread(path).get_item("PatientName").value
        )
        assert "山田".encode("iso2022_jp") in written
        assert "anary" not in caplog.text

    def test_that_break_the_rules_are_handed_on_without_a_word(
        self, dicom: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = dicom.save(
            dicom.dataset(PatientSex="F", PatientBirthDate="19700101"), tmp_path / "a"
        )
        content = path.read_bytes()
        path.write_bytes(content.replace(b"19700101", b"Canary  ").replace(b"F ", b"??"))
        image = record(path)

        written = bytes_of(made(image, scattered(image)))

        assert b"Canary" in written
        assert "Canary" not in caplog.text

    def test_in_a_character_set_that_nobody_knows_are_handed_on(
        self, dicom: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = dicom.save(dicom.dataset(SpecificCharacterSet="ISO_IR 192"), tmp_path / "a")
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"ISO_IR 999"))
        image = record(path)
        caplog.clear()

        written = bytes_of(made(image, scattered(image)))

        assert b"ISO_IR 999" in written
        assert b"Doe^Jane" in written
        assert caplog.text == ""

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    def test_of_animals_say_so(self, dicom: SimpleNamespace, tmp_path: Path, syntax: str) -> None:
        dog = dicom.item(CodeValue="448771007", CodingSchemeDesignator="SCT", CodeMeaning="Dog")
        stated = dicom.dataset(
            PatientSpeciesCodeSequence=[dog], PatientBreedCodeSequence=[], ResponsiblePerson="Roe"
        )
        image = record(dicom.save(stated, tmp_path / "a.dcm", syntax))

        dataset = dcmread(io.BytesIO(bytes_of(made(image, scattered(image)))))

        assert dataset.PatientSpeciesCodeSequence[0].CodeMeaning == "Dog"
        assert dataset.ResponsiblePerson == "Roe"

    def test_come_with_what_compression_lost(self, dicom: SimpleNamespace, tmp_path: Path) -> None:
        lossy = {"LossyImageCompression": "01", "LossyImageCompressionRatio": "12.5"}
        dicom.save_stack(tmp_path, 1, **lossy, LossyImageCompressionMethod="ISO_10918_1")
        image = record(tmp_path)

        dataset = made(image, scattered(image))

        assert dataset.LossyImageCompression == "01"
        assert dataset.LossyImageCompressionRatio == 12.5
        assert dataset.LossyImageCompressionMethod == "ISO_10918_1"


class TestFiles:
    def test_bear_our_mark_in_their_beginning(self, dicom: SimpleNamespace, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path, 1)
        image = record(tmp_path)

        written = bytes_of(made(image, scattered(image)))

        assert b"esp-medsam 1.2.3" in written[:4096]
        assert written[128:132] == b"DICM"

    def test_are_no_images_to_our_own_reader(self, dicom: SimpleNamespace, tmp_path: Path) -> None:
        dicom.save_stack(tmp_path, 1)
        image = record(tmp_path)
        (tmp_path / "seg.dcm").write_bytes(bytes_of(made(image, scattered(image))))

        found = find_volumes(tmp_path)

        assert len(found.volumes) == 1
        assert len(found.others) == 1


class TestRefusals:
    @pytest.fixture
    def image(self, dicom: SimpleNamespace, tmp_path: Path) -> Image:
        dicom.save_stack(tmp_path, 2)
        return record(tmp_path)

    def test_of_a_kind_that_is_none(self, image: Image) -> None:
        with pytest.raises(OptionError, match=r"seg_type must be one of binary.*'surface'"):
            made(image, scattered(image), kind="surface")

    @pytest.mark.parametrize(("shape", "instead"), [((4, 6), "Use png"), ((4, 6, 2), "Use nifti")])
    def test_of_images_that_are_no_dicom(self, shape: tuple[int, ...], instead: str) -> None:
        image = Image(path="a.png", name="a", modality="xray", spatial_shape=shape)

        with pytest.raises(OptionError, match=f"asked of DICOM images.*{instead}"):
            made(image, scattered(image))

    def test_of_a_study_without_its_uid(self, image: Image) -> None:
        unnamed = replace(image, study_uid=None)

        with pytest.raises(FormatError, match=r"StudyInstanceUID \(0020,000D\).*format nifti"):
            made(unnamed, scattered(image))

    def test_of_slices_without_an_instance(self, image: Image) -> None:
        fewer = replace(image, sources=image.sources[:1])

        with pytest.raises(GeometryError, match="each of its 2 slices; it names 1"):
            made(fewer, scattered(image))

    def test_of_masks_off_the_grid(self, image: Image) -> None:
        with pytest.raises(GeometryError, match=r"on the grid of .*\(6, 4, 2\); got \(4, 6, 2\)"):
            made(image, scattered(image).transpose(0, 2, 1, 3))

    def test_of_masks_of_another_type(self, image: Image) -> None:
        with pytest.raises(TypeError, match="uint8 or bool; got float32"):
            made(image, scattered(image).astype(np.float32))

    def test_of_labels_that_are_no_target_s(self, image: Image) -> None:
        with pytest.raises(GeometryError, match=r"labels of its targets alone; got \[1\] too"):
            made(image, scattered(image), kind="labelmap")

    def test_of_files_that_are_gone(self, image: Image) -> None:
        Path(image.sources[0].path).unlink()

        with pytest.raises(InputNotFoundError, match=r"0\.dcm must still be there"):
            made(image, scattered(image))

    def test_of_files_that_were_replaced(self, image: Image, tmp_path: Path) -> None:
        (tmp_path / "1.dcm").replace(tmp_path / "0.dcm")

        with pytest.raises(CorruptFileError, match=r"must still be the instance 1\.2\.3\.1"):
            made(image, scattered(image))

    def test_of_codes_that_some_character_sets_cannot_hold(self, image: Image) -> None:
        target = replace(LIVER, type=Code("1", "99X", "Foie élargi"))

        with pytest.raises(TableError, match="meaning of code 1 must be ASCII"):
            made(image, scattered(image), (target,))

    def test_of_more_than_one_object_holds(
        self, image: Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("esp_medsam.dicom.seg_writer._MOST_BYTES", 5)

        with pytest.raises(OutputError, match="fit in 4 GiB"):
            made(image, scattered(image))
