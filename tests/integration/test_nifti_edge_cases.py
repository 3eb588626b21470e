"""What becomes of each odd NIfTI file of the shared test volumes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from esp_medsam.errors import CorruptFileError, FormatError, NonFiniteError
from esp_medsam.io import read
from esp_medsam.io.nifti import write_nifti
from esp_medsam.modality import ModalityTable


READ = {
    "n00_reference/image": "",
    "n03_sheared_affine/image": "sheared",
    "n04_oblique/image": "",
    "n05_single_slice/image": "",
    "n06_2d/image": "",
    "n08_constant/image": "",
    "n09_no_affine_codes/image": "states no position",
    "n11_nifti2/image": "",
    "n12_big_endian/image": "",
    "n13_scl_slope/image": "",
    "n14_reoriented_LPS/image": "",
    "n15_reoriented_SAL/image": "",
    "n16_reoriented_LAS_lefthanded/image": "",
    "n17_tiny_3x3x3/image": "",
    "n18_label_mismatch/image": "",
    "n19_float64_int64/image": "",
    "n19_float64_int64/image_int64": "",
    "n22_4d_singleton/image": "",
    "n23_qform_sform_disagree/image": "qform and sform disagree",
}
"""Read, with a warning that holds these words, or with none."""

REFUSED = {
    "n01_4d_real/image": (FormatError, "one volume; got 128 x 96 x 24 x 2"),
    "n02_nan_inf/image": (NonFiniteError, "NaN or infinite"),
    "n07_truncated_gz/image": (CorruptFileError, "cut short"),
    "n10_rgb_real/image": (FormatError, "real numbers .* got RGB"),
    "n20_zero_byte/image": (CorruptFileError, "0 bytes"),
    "n21_not_nifti/image": (FormatError, "something else"),
}
"""Refused, with this error."""

SAME_VOLUME = [
    "n11_nifti2", "n12_big_endian", "n13_scl_slope", "n14_reoriented_LPS", "n15_reoriented_SAL",
    "n16_reoriented_LAS_lefthanded", "n18_label_mismatch", "n22_4d_singleton",
    "n23_qform_sform_disagree",
]  # fmt: skip
"""The reference again, in another form: same values at the same places."""


class TestNiftiEdgeCases:
    def test_every_file_has_its_outcome(self, shared: Path) -> None:
        folder = shared / "volumes" / "EDGE"
        files = {
            f"{path.parent.name}/{path.name.removesuffix('.nii.gz')}"
            for path in folder.glob("n*/image*.nii.gz")
        }

        assert files == READ.keys() | REFUSED.keys()

    @pytest.mark.parametrize(("case", "warning"), READ.items())
    def test_reads_and_writes_on_the_same_grid(
        self, shared: Path, table: ModalityTable, tmp_path: Path, case: str, warning: str
    ) -> None:
        path = shared / "volumes" / "EDGE" / f"{case}.nii.gz"
        source = nib.load(path)

        image = read(path, modality="ct", table=table)
        assert image.pixels is not None
        mask = np.zeros(image.file_shape or image.spatial_shape, np.uint8)
        write_nifti(tmp_path / "mask.nii.gz", mask, geometry=image.nifti_geometry)
        written = nib.load(tmp_path / "mask.nii.gz")

        assert [warning in note for note in image.warnings] == [True] * bool(warning)
        np.testing.assert_array_equal(image.pixels.ravel(), source.get_fdata().ravel())
        np.testing.assert_array_equal(written.affine, source.affine)
        assert written.shape == source.shape[:3]

    @pytest.mark.parametrize(("case", "outcome"), REFUSED.items())
    def test_refuses_in_one_line_that_names_the_file(
        self,
        shared: Path,
        table: ModalityTable,
        case: str,
        outcome: tuple[type[Exception], str],
    ) -> None:
        path = shared / "volumes" / "EDGE" / f"{case}.nii.gz"
        kind, found = outcome

        with pytest.raises(kind, match=f"{path} must .*{found}"):
            read(path, modality="ct", table=table)

    @pytest.mark.parametrize("case", SAME_VOLUME)
    def test_values_lie_where_the_reference_has_them(
        self, shared: Path, table: ModalityTable, case: str
    ) -> None:
        folder = shared / "volumes" / "EDGE"
        reference = read(folder / "n00_reference" / "image.nii.gz", modality="ct", table=table)
        image = read(folder / case / "image.nii.gz", modality="ct", table=table)
        assert reference.pixels is not None
        assert image.pixels is not None
        corner = np.array([[0, 0, 0, 1], [9, 5, 3, 1], [121, 100, 11, 1]], dtype=float).T

        at_world = np.linalg.inv(image.affine) @ reference.affine @ corner
        x, y, z = np.rint(at_world[:3]).astype(int)

        np.testing.assert_allclose(at_world[:3], [x, y, z], atol=1e-3)
        i, j, k = corner[:3].astype(int)
        np.testing.assert_array_equal(image.pixels[0, x, y, z], reference.pixels[0, i, j, k])


class TestSharedImages:
    def test_reads_every_volume_as_nibabel_does(self, shared: Path, table: ModalityTable) -> None:
        paths = sorted((shared / "volumes").glob("[CM]*/*/image.nii.gz"))
        assert paths

        for path in paths:
            image = read(path, modality="mri", table=table)
            source = nib.load(path)
            np.testing.assert_array_equal(image.affine, source.affine)
            assert image.spatial_shape == source.shape

    @pytest.mark.parametrize(
        "modality", ["dermoscopy", "xray", "ultrasound", "fundus", "microscopy", "endoscopy"]
    )
    def test_reads_photographs_of_every_set(
        self, shared: Path, table: ModalityTable, modality: str
    ) -> None:
        folder = shared / "data2d" / modality
        paths = [path for path in sorted(folder.rglob("*.*g")) if "mask" not in str(path)][:5]
        assert paths

        for path in paths:
            image = read(path, modality=modality, table=table)
            assert image.pixels is not None
            assert image.pixels.shape[0] in (1, 3)
            assert image.warnings == ()
