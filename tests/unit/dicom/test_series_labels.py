from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from esp_medsam import io
from esp_medsam.dicom import SeriesLabels, labels_series
from esp_medsam.errors import GeometryError, OptionError
from esp_medsam.grid import Grid
from esp_medsam.image import Image
from esp_medsam.modality import Code, ModalityTable
from tests.support.dicom_volumes import TURNS


DESCRIBED = (
    ("Liver", codes.SCT.Liver, ()),
    ("left", codes.SCT.Kidney, (codes.SCT.Left,)),
    ("right", codes.SCT.Kidney, (codes.SCT.Right,)),
    ("twice", codes.SCT.Pancreas, ()),
    ("twice", codes.SCT.Pancreas, ()),
)
"""Label, type and modifiers of the segments."""

SHIFT = np.pad([[0.3], [0.0], [0.0]], ((0, 1), (3, 0)))
"""Moves an affine by 0.3 mm, within the plane."""


def seen(count: int = 5, seed: int = 0) -> np.ndarray:
    """Masks of the segments without any symmetry, by file: ``(segments, files, rows, columns)``."""
    return np.random.default_rng(seed).random((len(DESCRIBED), count, 4, 6)) > 0.6


@pytest.fixture
def series(dicom: Any, tmp_path: Path) -> Callable[..., list[Dataset]]:
    """Return a function that writes a series whose pixels say which segments are where."""

    def write(turn: str = "axial", folder: str = "ct", **changes: Any) -> list[Dataset]:
        across, down, along = TURNS[turn]
        bits = (seen() * 2 ** np.arange(len(DESCRIBED))[:, None, None, None]).sum(axis=0)
        (tmp_path / folder).mkdir()
        datasets = []
        for number, pixels in enumerate(bits):
            stated = {
                "ImagePositionPatient": (2.5 * number * along + [10, 20, 30]).round(6).tolist(),
                "ImageOrientationPatient": [*across.round(9), *down.round(9)],
                "PixelData": pixels.astype(np.uint16).tobytes(),
                "PatientID": "1", "PatientBirthDate": "", "PatientSex": "", "StudyDate": "",
                "StudyTime": "", "AccessionNumber": "", "StudyID": "", "RescaleSlope": 1,
                "ReferringPhysicianName": "", "RescaleIntercept": 0, "RescaleType": "HU",
            }  # fmt: skip
            dataset = dicom.dataset(number, **{**stated, **changes})
            dicom.save(dataset, tmp_path / folder / f"{number}.dcm")
            datasets.append(dataset)
        return datasets

    return write


@pytest.fixture
def segmented(tmp_path: Path) -> Callable[..., str]:
    """Return a function that lets highdicom write the segments of a series."""

    def write(
        datasets: list[Dataset],
        kind: str = "BINARY",
        *,
        masks: np.ndarray | None = None,
        share: float = 1.0,
        **changes: Any,
    ) -> str:
        masks = np.moveaxis(seen() if masks is None else masks, 0, -1)
        if kind == "LABELMAP":  # no overlaps
            masks = masks & (np.cumsum(masks, axis=-1) == 1)
        pixels = masks.astype(np.uint8)
        if kind == "FRACTIONAL":
            pixels = masks.astype(np.float32) * share
        dataset = hd.seg.Segmentation(
            datasets, pixels, kind, [described(k) for k in range(masks.shape[-1])],
            series_instance_uid="1.2.5", series_number=5, sop_instance_uid="1.2.5.1",
            instance_number=1, manufacturer="a", manufacturer_model_name="b",
            software_versions="c", device_serial_number="d",
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )  # fmt: skip
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(tmp_path / "seg.dcm")
        return str(tmp_path / "seg.dcm")

    return write


def described(k: int) -> hd.seg.SegmentDescription:
    label, type_, modifiers = DESCRIBED[k]
    description = hd.seg.SegmentDescription(
        k + 1, label, codes.cid7150.AnatomicalStructure, type_, "MANUAL"
    )
    if modifiers:
        items = [hd.sr.CodedConcept.from_code(code) for code in modifiers]
        (item,) = description.SegmentedPropertyTypeCodeSequence
        item.SegmentedPropertyTypeModifierCodeSequence = items
    return description


@pytest.fixture
def read(tmp_path: Path, table: ModalityTable) -> Callable[..., Image]:
    return lambda folder="ct": io.read(tmp_path / folder)


def truth(image: Image, *numbers: int) -> np.ndarray:
    """Where segments are by the pixels of the series, as they are read."""
    assert image.pixels is not None
    bits = sum(2 ** (number - 1) for number in numbers)
    return (image.pixels[0].astype(int) & bits) > 0


class TestSegmentsLieWhereTheirSeriesHasThem:
    @pytest.mark.parametrize("turn", TURNS)
    def test_however_it_is_turned(self, turn: str, series: Any, segmented: Any, read: Any) -> None:
        path = segmented(series(turn))
        image = read()

        labels = SeriesLabels(path, image)

        assert labels_series(path)
        np.testing.assert_array_equal(labels.mask(values=[1]), truth(image, 1))
        np.testing.assert_array_equal(labels.mask(names=["left", "right"]), truth(image, 2, 3))

    def test_whatever_the_order_of_frames(
        self, series: Any, segmented: Any, read: Any, dicom: Any
    ) -> None:
        path = segmented(series()[::-1])  # and so the masks of the last file are the first

        found = SeriesLabels(path, read()).mask(values=[1])

        np.testing.assert_array_equal(found.transpose(2, 1, 0)[::-1], seen()[0])

    def test_of_a_labelmap(self, series: Any, segmented: Any, read: Any) -> None:
        path = segmented(series(), "LABELMAP")
        image = read()

        found = SeriesLabels(path, image).mask(values=[2])

        np.testing.assert_array_equal(found, truth(image, 2) & ~truth(image, 1))

    @pytest.mark.parametrize(("share", "counts"), [(0.5, True), (0.49, False)])
    def test_of_a_fractional_object_from_half_of_its_maximum_on(
        self, series: Any, segmented: Any, read: Any, share: float, counts: bool
    ) -> None:
        path = segmented(series(), "FRACTIONAL", share=share)
        image = read()

        found = SeriesLabels(path, image).mask(values=[1])

        np.testing.assert_array_equal(found, truth(image, 1) & counts)

    def test_where_slices_between_are_empty(self, series: Any, segmented: Any, read: Any) -> None:
        masks = seen()
        masks[0, 1:4] = False
        path = segmented(series(), masks=masks[:1])
        image = read()

        found = SeriesLabels(path, image).mask(values=[1])

        np.testing.assert_array_equal(found.transpose(2, 1, 0), masks[0])


class TestSegmentsAreRefused:
    def test_in_another_frame_of_reference(self, series: Any, segmented: Any, read: Any) -> None:
        path = segmented(series(), FrameOfReferenceUID="1.8")

        with pytest.raises(GeometryError, match=r"seg\.dcm is in 1\.8, .*ct in 1\.9"):
            SeriesLabels(path, read())

    def test_without_a_frame_of_reference_if_they_name_no_image(
        self, series: Any, segmented: Any, read: Any
    ) -> None:
        path = segmented(series())
        series(folder="other", FrameOfReferenceUID=None)
        image = read("other")
        named = SeriesLabels(path, image).mask(values=[1])
        foreign = tuple(
            replace(source, sop_instance_uid=f"9.{k}") for k, source in enumerate(image.sources)
        )

        np.testing.assert_array_equal(named, truth(image, 1))
        with pytest.raises(GeometryError, match="do not both state one, and it names none"):
            SeriesLabels(path, replace(image, sources=foreign))

    def test_of_another_series_unless_its_grid_is_the_same(
        self, series: Any, segmented: Any, read: Any
    ) -> None:
        path = segmented(series())
        image = read()
        foreign = tuple(
            replace(source, sop_instance_uid=f"9.{k}") for k, source in enumerate(image.sources)
        )
        moved = replace(image.grid, slice_affines=image.grid.slice_affines + SHIFT)
        moved = replace(moved, affine=image.grid.affine + SHIFT)

        same = SeriesLabels(path, replace(image, sources=foreign)).mask(values=[1])

        np.testing.assert_array_equal(same, truth(image, 1))
        with pytest.raises(
            GeometryError, match=r"seg\.dcm must lie on its series: A mask must lie on the grid"
        ):
            SeriesLabels(path, replace(image, sources=foreign, grid=moved)).mask(values=[1])

    def test_in_another_slice_than_they_say(self, series: Any, segmented: Any, read: Any) -> None:
        path = segmented(series())
        image = read()
        swapped = replace(image, sources=image.sources[::-1])

        with pytest.raises(GeometryError, match=r"must lie in the slice that it says .* 1\.2\.3\."):
            SeriesLabels(path, swapped)

    def test_of_what_is_no_positioned_series(self, series: Any, segmented: Any, read: Any) -> None:
        path = segmented(series())
        image = read()
        picture = replace(image, grid=Grid(shape=image.grid.shape))

        with pytest.raises(GeometryError, match="must belong to a DICOM series"):
            SeriesLabels(path, picture)


class TestWhatIsMeant:
    HELD = r"1 \(Liver\), 2 \(left\), 3 \(right\), 4 \(twice\), 5 \(twice\)"

    @pytest.fixture
    def labels(self, series: Any, segmented: Any, read: Any) -> SeriesLabels:
        return SeriesLabels(segmented(series()), read())

    @pytest.mark.parametrize(
        ("meant", "message"),
        [
            ({"values": [1, 7]}, rf"values must .*, {HELD}; got 7\."),
            ({"names": ["spleen"]}, rf", {HELD}; 'spleen' matches none\."),
            ({"names": ["liver"]}, "'liver'.*none"),
            ({"names": ["twice"]}, rf"{HELD}; 'twice' matches 4, 5\."),
            ({}, rf"unknown must .* values or names; .* holds {HELD}\."),
        ],
    )
    def test_must_be_there_once(
        self, labels: SeriesLabels, meant: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(OptionError, match=message):
            labels.mask(**meant)

    def test_is_what_has_the_codes_of_the_target(
        self, labels: SeriesLabels, table: ModalityTable
    ) -> None:
        liver = next(target for target in table["ct"].targets if target.name == "liver")
        old = replace(liver, type=Code("T-62000", "SRT", "Liver"))

        expected = truth(labels.image, 1)
        np.testing.assert_array_equal(labels.mask(target=liver), expected)
        np.testing.assert_array_equal(labels.mask(target=old), expected)

    @pytest.mark.parametrize(
        ("name", "having"),
        [("kidney", "none has"), ("pancreas", "4, 5 have"), ("kidney_tumor", "none has")],
    )
    def test_is_never_guessed_from_codes_of_a_part_or_of_several(
        self, labels: SeriesLabels, table: ModalityTable, name: str, having: str
    ) -> None:
        target = next(target for target in table["ct"].targets if target.name == name)

        with pytest.raises(OptionError, match=rf"holds {self.HELD}, of which {having} them"):
            labels.mask(target=target)
