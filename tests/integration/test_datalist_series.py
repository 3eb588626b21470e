"""Real segmentations and structure sets of others as labels of datalists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from esp_medsam.cli.main import main
from esp_medsam.dicom.structure_set import read_structure_set
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.datalist import read_datalist
from esp_medsam.workflows.datalist_images import MaskReader, read_image
from tests.support.nifti import filled_places


@pytest.fixture
def folder(shared: Path) -> Path:
    """A CT of three slices, its liver as dcmqi wrote it, and the same as NIfTI."""
    return shared / "volumes/SEG/dcmqi_liver_ct3slice"


class TestDcmqi:
    @pytest.mark.parametrize("meant", [{"values": 1}, {"names": "Liver"}, {}])
    def test_liver_labels_its_series_voxel_by_voxel(
        self,
        folder: Path,
        tmp_path: Path,
        table: ModalityTable,
        capsys: pytest.CaptureFixture[str],
        meant: dict[str, Any],
    ) -> None:
        mask = {"path": str(folder / "seg/liver.dcm"), **meant}
        item = {"image": str(folder / "dicom"), "modality": "ct", "labels": {"liver": mask}}
        path = tmp_path / "datalist.json"
        path.write_text(json.dumps({"training": [item]}))

        status = main(["datalist", "--check", str(path)])
        (read,) = read_datalist(path, "training")
        image = read_image(read, table)
        found = MaskReader(image, table).of_target(read, "liver")

        label = nib.load(folder / "label_liver.nii.gz")
        assert status == 0, capsys.readouterr().err
        assert found is not None
        assert image.grid.affine is not None
        assert filled_places(found, image.grid.affine) == filled_places(
            np.asarray(label.dataobj), label.affine
        )

    def test_liver_is_refused_for_another_series(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = folder.parent / "highdicom_ct/dicom"
        labels = {"liver": str(folder / "seg/liver.dcm")}
        item = {"image": str(other), "modality": "ct", "labels": labels}
        path = tmp_path / "datalist.json"
        path.write_text(json.dumps({"training": [item]}))

        status = main(["datalist", "--check", str(path)])

        told = capsys.readouterr()
        assert status == 1
        assert "must be in their image's Frame of Reference" in told.out + told.err


def test_contours_of_a_shipped_structure_set_are_read(shipped: Callable[[str], Path]) -> None:
    found = read_structure_set(str(shipped("rtstruct.dcm")))

    patient = next(region for region in found.regions if region.label == "patient")
    assert [region.number for region in found.regions] == [1, 2, 3]
    assert [len(contour.points) for contour in patient.contours()] == [5, 6, 6]
