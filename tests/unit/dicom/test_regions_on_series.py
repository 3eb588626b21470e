from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import RTStructureSetStorage

from esp_medsam.dicom import SeriesLabels, labels_series
from esp_medsam.dicom.structure_set import read_structure_set
from esp_medsam.errors import (
    CorruptFileError,
    EspMedSamError,
    FormatError,
    GeometryError,
    OptionError,
)
from esp_medsam.image import Image
from esp_medsam.io.read import read
from esp_medsam.modality import ModalityTable
from tests.support.dicom_volumes import TURNS


GAP, START = 2.5, np.array([10.0, 20.0, 30.0])

BOXES = {0: (0, 4, 1, 3), 1: (1, 6, 0, 2), 3: (2, 3, 2, 4)}
"""First and end column, first and end row of what is drawn on a file."""


def at(turn: str, number: float, columns: Any, rows: Any) -> np.ndarray:
    """Points in the patient (LPS), by the standard's equation C.7.6.2.1-1."""
    across, down, along = TURNS[turn]
    places = np.stack(np.broadcast_arrays(columns, rows), -1) * [0.75, 0.5]
    return START + GAP * number * along + places @ np.stack([across, down])


def box(turn: str, number: float, first: int, end: int, top: int, bottom: int) -> np.ndarray:
    """A contour around pixels."""
    columns = np.array([first, end, end, first]) - 0.5
    return at(turn, number, columns, np.array([top, top, bottom, bottom]) - 0.5)


@pytest.fixture
def series(dicom: Any, tmp_path: Path, table: ModalityTable) -> Callable[..., Image]:
    """Return a function that writes a series whose pixels say what is drawn, and reads it."""

    def write(turn: str = "axial", **changes: Any) -> Image:
        across, down, _ = TURNS[turn]
        (tmp_path / "ct").mkdir()
        for number in range(5):
            pixels = np.zeros((4, 6), np.uint16)
            first, end, top, bottom = BOXES.get(number, (0, 0, 0, 0))
            pixels[top:bottom, first:end] = 1
            stated = {
                "ImagePositionPatient": at(turn, number, 0, 0).round(6).tolist(),
                "ImageOrientationPatient": [*across.round(9), *down.round(9)],
                "PixelData": pixels.tobytes(),
                "RescaleIntercept": 0,
                "RescaleSlope": 1,
                "RescaleType": "HU",
                **changes,
            }
            dicom.save(dicom.dataset(number, **stated), tmp_path / "ct" / f"{number}.dcm")
        return read(tmp_path / "ct")

    return write


@pytest.fixture
def structured(dicom: Any, tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a structure set: region 4, Liver, and region 7, Body."""

    def write(
        *contours: tuple[int | None, np.ndarray],
        kind: str = "CLOSED_PLANAR",
        sources: Any = range(5),
        change: Callable[[Dataset], None] = lambda _: None,
        frame: str | None = "1.9",
        name: str = "rt.dcm",
    ) -> str:
        item = dicom.item
        images = [item(ReferencedSOPInstanceUID=f"1.2.3.{k + 1}") for k in sources]
        series = item(SeriesInstanceUID="1.2.3", ContourImageSequence=images)
        study = item(RTReferencedSeriesSequence=series)
        drawn = []
        for number, points in contours:
            contour = item(
                ContourGeometricType=kind,
                NumberOfContourPoints=len(points),
                ContourData=[f"{value:.6f}" for value in points.ravel()],
            )
            if number is not None:
                image = item(ReferencedSOPInstanceUID=f"1.2.3.{number + 1}")
                contour.ContourImageSequence = [image]
            drawn.append(contour)
        code = item(CodeValue="10200004", CodingSchemeDesignator="SCT", CodeMeaning="Liver")
        dataset = item(
            SOPClassUID=RTStructureSetStorage,
            SOPInstanceUID="1.2.7.1",
            Modality="RTSTRUCT",
            ReferencedFrameOfReferenceSequence=item(RTReferencedStudySequence=study),
            StructureSetROISequence=[
                item(ROINumber=number, ROIName=label, ReferencedFrameOfReferenceUID=frame)
                for number, label in ((7, "Body"), (4, "Liver"))
            ],
            ROIContourSequence=[
                item(ReferencedROINumber=4, ContourSequence=drawn),
                item(ReferencedROINumber=7),
            ],
            RTROIObservationsSequence=[
                item(ReferencedROINumber=4, RTROIIdentificationCodeSequence=code),
                item(ReferencedROINumber=7),
            ],
        )
        change(dataset)
        return str(dicom.save(dataset, tmp_path / name))

    return write


def outlined(turn: str = "axial") -> list[tuple[int | None, np.ndarray]]:
    return [(number, box(turn, number, *where)) for number, where in BOXES.items()]


def truth(image: Image) -> np.ndarray:
    assert image.pixels is not None
    return image.pixels[0] == 1


class TestRegionsLieWhereTheirSeriesHasThem:
    @pytest.mark.parametrize("turn", TURNS)
    def test_however_it_is_turned(self, turn: str, series: Any, structured: Any) -> None:
        image, path = series(turn), structured(*outlined(turn))

        found = SeriesLabels(path, image).mask(names=["Liver"])

        assert labels_series(path)
        assert found.sum() == 8 + 10 + 2
        np.testing.assert_array_equal(found, truth(image))

    def test_by_position_where_contours_name_no_image(self, series: Any, structured: Any) -> None:
        image = series()
        path = structured(*[(None, points) for _, points in outlined()][::-1])

        np.testing.assert_array_equal(SeriesLabels(path, image).mask(values=[4]), truth(image))

    def test_of_contours_as_long_as_any(self, series: Any, structured: Any) -> None:
        image = series()
        dense = [
            (n, np.concatenate([np.linspace(a, b, 500, endpoint=False)
                                for a, b in zip(p, np.roll(p, -1, axis=0), strict=True)]))
            for n, p in outlined()
        ]  # fmt: skip

        np.testing.assert_array_equal(
            SeriesLabels(structured(*dense), image).mask(values=[4]), truth(image)
        )

    def test_of_a_contour_within_another_which_is_a_hole(
        self, series: Any, structured: Any
    ) -> None:
        contours = [box("axial", 2, 0, 6, 0, 4), box("axial", 2, 1, 5, 1, 3)]
        contours.append(box("axial", 2, 2, 3, 1, 2))

        found = SeriesLabels(structured(*[(2, c) for c in contours]), series()).mask(values=[4])

        expected = np.zeros((6, 4, 5), bool)
        expected[:, :, 2] = True
        expected[1:5, 1:3, 2] = False
        expected[2, 1, 2] = True
        np.testing.assert_array_equal(found, expected)

    def test_within_a_tenth_of_the_distance_of_slices(self, series: Any, structured: Any) -> None:
        image = series()
        moved = [(None, points + np.array([0, 0, 0.24])) for _, points in outlined()]

        np.testing.assert_array_equal(
            SeriesLabels(structured(*moved), image).mask(values=[4]), truth(image)
        )


class TestRegionsAreRefused:
    @pytest.mark.parametrize("number", [2.11, 2.5, -1, 5])
    def test_between_slices_or_beyond(self, series: Any, structured: Any, number: float) -> None:
        path = structured((None, box("axial", number, 1, 3, 1, 3)))

        with pytest.raises(GeometryError, match=r"must lie in slices of .*ct, within 0\.25 mm; on"):
            SeriesLabels(path, series()).mask(values=[4])

    def test_across_slices(self, series: Any, structured: Any) -> None:
        tilted = box("axial", 2, 1, 3, 1, 3)
        tilted[1:3, 2] += 1

        with pytest.raises(GeometryError, match="must lie in slices of"):
            SeriesLabels(structured((None, tilted)), series()).mask(values=[4])

    def test_in_another_slice_than_they_say(self, series: Any, structured: Any) -> None:
        path = structured((1, box("axial", 2, 1, 3, 1, 3)))

        with pytest.raises(GeometryError, match=r"drawn on, 1\.2\.3\.2; it lies in 1\.2\.3\.3"):
            SeriesLabels(path, series()).mask(values=[4])

    def test_in_another_frame_of_reference(self, series: Any, structured: Any) -> None:
        path = structured(*outlined(), frame="1.8")

        with pytest.raises(GeometryError, match=r"rt\.dcm is in 1\.8, .*ct in 1\.9"):
            SeriesLabels(path, series()).mask(values=[4])

    def test_that_name_no_image_of_the_series(self, series: Any, structured: Any) -> None:
        path = structured(*[(None, c) for _, c in outlined()], sources=range(10, 15))

        with pytest.raises(GeometryError, match=r"rt\.dcm.*no image"):
            SeriesLabels(path, series())

    @pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR", "CLOSEDPLANAR_XOR"])
    def test_of_other_kinds_than_closed_planar(
        self, series: Any, structured: Any, kind: str
    ) -> None:
        path = structured(*outlined(), kind=kind)

        with pytest.raises(FormatError, match=rf"Liver in .* must be CLOSED_PLANAR .* is {kind}"):
            SeriesLabels(path, series()).mask(values=[4])

    @pytest.mark.parametrize("where", [(2, 5, 1, 4), (0, 3, 0, 2)])
    def test_if_contours_cross_or_are_there_twice(
        self, series: Any, structured: Any, where: tuple[int, ...]
    ) -> None:
        contours = [(2, box("axial", 2, 0, 3, 0, 2)), (2, box("axial", 2, *where))]

        with pytest.raises(GeometryError, match=r"two in 1\.2\.3\.3 cross, or are the same"):
            SeriesLabels(structured(*contours), series()).mask(values=[4])

    def test_that_are_not_there(self, series: Any, structured: Any) -> None:
        labels = SeriesLabels(structured(*outlined()), series())

        with pytest.raises(OptionError, match=r"4 \(Liver\), 7 \(Body\); 'liver'"):
            labels.mask(names=["liver"])

    @pytest.mark.parametrize(
        "change",
        [
            lambda contour: setattr(contour, "ContourData", contour.ContourData[:-1]),
            lambda contour: setattr(contour, "ContourData", contour.ContourData[:-3]),
            lambda contour: setattr(contour, "ContourData", None),
        ],
    )
    def test_of_broken_points(self, series: Any, structured: Any, change: Any) -> None:
        def broken(dataset: Dataset) -> None:
            change(dataset.ROIContourSequence[0].ContourSequence[1])

        with pytest.raises(CorruptFileError, match="must be 4 points of three numbers; it has"):
            SeriesLabels(structured(*outlined(), change=broken), series()).mask(values=[4])

    def test_of_what_is_no_number(self, series: Any, structured: Any, tmp_path: Path) -> None:
        path = Path(structured((2, box("axial", 2, 1, 3, 1, 3))))
        path.write_bytes(path.read_bytes().replace(b"35.000000", b"35.0000_0"))

        with pytest.raises(FormatError, match=r"ContourData \(3006,0050\) .* be finite numbers"):
            SeriesLabels(str(path), series()).mask(values=[4])

    def test_wherever_the_file_is_cut_short(self, series: Any, structured: Any) -> None:
        image = series()
        path = Path(structured(*outlined()))
        content = path.read_bytes()
        contours = content.index(b"CLOSED_PLANAR")
        assert SeriesLabels(str(path), image).mask(values=[4]).any()

        for end in range(contours, len(content)):
            path.write_bytes(content[:end])
            try:
                found = SeriesLabels(str(path), image).mask(values=[4])
            except EspMedSamError:
                continue
            np.testing.assert_array_equal(found, truth(image), err_msg=f"cut at {end}")


class TestReadStructureSet:
    def test_finds_regions_by_number_with_their_codes(self, structured: Any) -> None:
        regions = read_structure_set(structured(*outlined())).regions

        assert [(r.number, r.label, r.type and r.type.value) for r in regions] == [
            (4, "Liver", "10200004"),
            (7, "Body", None),
        ]

    def test_refuses_a_number_twice(self, structured: Any) -> None:
        def twice(dataset: Dataset) -> None:
            dataset.StructureSetROISequence[0].ROINumber = 4

        with pytest.raises(CorruptFileError, match="got 4 twice"):
            read_structure_set(structured(change=twice))

    def test_refuses_what_is_none(self, dicom: Any, tmp_path: Path) -> None:
        path = dicom.save(dicom.dataset(), tmp_path / "a.dcm")

        with pytest.raises(FormatError, match="must be an RT Structure Set; it is CT Image"):
            read_structure_set(str(path))
