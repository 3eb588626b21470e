"""Datalists whose labels are DICOM files of a series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from esp_medsam.errors import OptionError
from esp_medsam.image import Image
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.datalist import Item, Mask, parse_items
from esp_medsam.workflows.datalist_check import faults_of
from esp_medsam.workflows.datalist_images import MaskReader
from esp_medsam.workflows.read_slices import SliceReader
from esp_medsam.workflows.training_slices import slices_of


NUMBERS = {"path": "seg.dcm", "values": {"liver": 1, "kidney": 2}}


@pytest.fixture
def item(write_seg: Callable[..., np.ndarray]) -> dict[str, Any]:
    """A series with a liver and a kidney in ``seg.dcm``."""
    write_seg("seg.dcm")
    return {"image": "ct", "modality": "ct", "labels": NUMBERS}


class TestSegments:
    @pytest.mark.parametrize(
        "labels",
        [
            NUMBERS,
            {"path": "seg.dcm", "names": {"liver": "Liver", "kidney": ["Kidney"]}},
            {"liver": "seg.dcm", "kidney": {"path": "seg.dcm", "names": "Kidney"}},
            {"liver": "seg.dcm", "kidney": "seg.dcm"},
        ],
    )
    @pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
    def test_label_the_slices_of_their_series(
        self,
        tmp_path: Path,
        item: dict[str, Any],
        write_seg: Callable[..., np.ndarray],
        table: ModalityTable,
        labels: Any,
        kind: str,
    ) -> None:
        masks = write_seg("seg.dcm", kind) > 0
        item["labels"] = labels
        names = [target.name for target in table["ct"].targets]

        slices = slices_of(Item.model_validate(item).located(tmp_path), table, (128, 128))

        assert faults_of({"training": [item]}, tmp_path, table) == []
        for target, mask in zip(("liver", "kidney"), masks, strict=True):
            found = [int(piece.label[names.index(target)].sum()) for piece in slices]
            assert sorted(found) == sorted(mask.sum(axis=(0, 1)).tolist())

    def test_tell_unknown_pixels(
        self, tmp_path: Path, item: dict[str, Any], ct_stack: Image, table: ModalityTable
    ) -> None:
        item["unknown"] = {"path": "seg.dcm", "names": "Kidney"}
        placed = Item.model_validate(item).located(tmp_path)
        reader = MaskReader(ct_stack, table)

        labeled, kidney = reader.labeled(placed), reader.of_target(placed, "kidney")

        assert labeled is not None
        assert kidney is not None
        np.testing.assert_array_equal(labeled, ~kidney)

    def test_are_read_anew_where_another_is_meant(
        self, tmp_path: Path, item: dict[str, Any], table: ModalityTable
    ) -> None:
        keys = set()
        for name in ("Liver", "Kidney"):
            item["labels"] = {"liver": {"path": "seg.dcm", "names": name}}
            placed = Item.model_validate(item).located(tmp_path)
            reader = SliceReader(datalist="", table=table, input_size=(128, 128))
            keys.add(reader._entry("", placed).key)  # type: ignore[union-attr]  # no fault

        assert len(keys) == 2


class TestRegions:
    @pytest.fixture
    def write(self, tmp_path: Path, ct_stack: Image) -> Callable[..., None]:
        """Return a function that writes a square of a liver at a height, and its code."""

        def write(height: float) -> None:
            dataset = Dataset()
            dataset.SOPClassUID = RTStructureSetStorage
            dataset.SOPInstanceUID = "1.2.7"
            roi, region, contour, image, code, observed = (Dataset() for _ in range(6))
            roi.ROINumber, roi.ROIName = 4, "Liver_ed"
            roi.ReferencedFrameOfReferenceUID = ct_stack.frame_of_reference_uid
            code.CodeValue, code.CodingSchemeDesignator = "10200004", "SCT"
            observed.ReferencedROINumber = region.ReferencedROINumber = 4
            observed.RTROIIdentificationCodeSequence = [code]
            image.ReferencedSOPInstanceUID = "1.2.3.1"
            contour.ContourGeometricType = "CLOSED_PLANAR"
            corners = [(-20, 40), (0, 40), (0, 60), (-20, 60)]
            contour.ContourData = [value for x, y in corners for value in (x, y, height)]
            contour.ContourImageSequence = [image]
            region.ContourSequence = [contour]
            dataset.StructureSetROISequence = [roi]
            dataset.ROIContourSequence = [region]
            dataset.RTROIObservationsSequence = [observed]
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            dataset.save_as(tmp_path / "rt.dcm", enforce_file_format=True)

        return write

    @pytest.mark.parametrize(
        "mask", ["rt.dcm", {"path": "rt.dcm", "values": 4}, {"path": "rt.dcm", "names": "Liver_ed"}]
    )
    def test_label_the_slices_of_their_series(
        self, tmp_path: Path, write: Any, table: ModalityTable, mask: Any
    ) -> None:
        write(2.0)
        item = {"image": "ct", "modality": "ct", "labels": {"liver": mask}}

        slices = slices_of(Item.model_validate(item).located(tmp_path), table, (128, 128))

        assert faults_of({"training": [item]}, tmp_path, table) == []
        # 20 mm of pixels 0.661468 mm wide, from -40 and 20 mm on
        assert sorted(int(piece.label.sum()) for piece in slices) == [0, 0, 0, 0, 30 * 30]

    def test_between_slices_are_a_fault(
        self, tmp_path: Path, write: Any, table: ModalityTable
    ) -> None:
        write(3.0)
        item = {"image": "ct", "modality": "ct", "labels": {"liver": "rt.dcm"}}

        (fault,) = faults_of({"training": [item]}, tmp_path, table)

        assert fault.place == "training[0]['labels']['liver']"
        assert "must lie in slices of" in fault.rule


class TestFaults:
    @pytest.mark.parametrize(
        ("labels", "told"),
        [
            (
                {"path": "seg.dcm", "values": {"liver": 8, "kidney": 9}},
                [
                    "['labels']['liver'] must be usable; values must be among those of ",
                    "['kidney']",
                ],
            ),
            (
                {"path": "seg.dcm", "names": {"liver": "Spleen", "kidney": "Kidney"}},
                ["1 (Liver), 2 (Kidney); 'Spleen' matches none"],
            ),
            ({"pancreas": "seg.dcm"}, ["has its codes (15776009, SCT); "]),
        ],
    )
    def test_of_what_is_meant_are_told_by_target(
        self, tmp_path: Path, item: dict[str, Any], table: ModalityTable, labels: Any, told: Any
    ) -> None:
        item["labels"] = labels

        faults = faults_of({"training": [item]}, tmp_path, table)

        assert len(faults) == len(told)
        for fault, text in zip(faults, told, strict=True):
            assert text in str(fault)

    def test_of_the_file_are_told_once(
        self,
        tmp_path: Path,
        item: dict[str, Any],
        write_stack: Callable[..., Path],
        table: ModalityTable,
    ) -> None:
        write_stack(tmp_path / "other", [0, 2, 4, 6, 8], FrameOfReferenceUID="1.2.9")
        item["image"] = "other"

        (fault,) = faults_of({"training": [item]}, tmp_path, table)

        assert fault.place == "training[0]['labels']['liver']"
        assert "must be in their image's Frame of Reference" in fault.rule

    def test_name_an_empty_segment(
        self,
        tmp_path: Path,
        item: dict[str, Any],
        ct_stack: Image,
        table: ModalityTable,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        nothing = np.zeros(ct_stack.grid.shape, np.uint8)
        monkeypatch.setattr(
            "esp_medsam.dicom.seg.read.masks.DicomSegmentation.mask", lambda *_: nothing
        )

        faults = faults_of({"training": [item]}, tmp_path, table)

        assert [fault.place[-10:] for fault in faults] == ["]['liver']", "['kidney']"]
        assert "seg.dcm is empty. List the target under absent" in faults[0].rule


class TestMask:
    def test_is_chosen_by_values_or_by_names(self) -> None:
        mask = {"path": "a.dcm", "values": 1, "names": "Liver"}
        entry = {"image": "ct", "modality": "ct", "labels": {"liver": mask}}

        _, (fault,) = parse_items([entry], "training", Path())

        assert "must choose by values or by names, not by both" in fault.rule

    def test_of_other_files_has_no_names(
        self,
        tmp_path: Path,
        ct_stack: Image,
        table: ModalityTable,
        write_volume: Callable[..., Path],
    ) -> None:
        path = write_volume(np.zeros(ct_stack.grid.shape, np.uint8), ct_stack.grid.affine)

        with pytest.raises(OptionError, match=r"names must.*\.nii\.gz"):
            MaskReader(ct_stack, table)(Mask(path=str(path), names=("Liver",)), "liver")
