"""The outcome chosen for each odd NIfTI file of the shared test volumes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest

from esp_medsam.errors import EspMedSamError, OptionError
from esp_medsam.io import read, settle_modality
from esp_medsam.io.nifti import read_nifti, write_nifti
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.datalist import Mask
from esp_medsam.workflows.datalist_images import MaskReader


class Read(NamedTuple):
    """Read, and written on the same grid.

    Attributes:
        equals: What its values equal: "world", the reference at the same places in the patient;
            "voxels", the reference voxel by voxel, at places of its own; "own", neither.
        warning: Words of the one warning; none where empty.
    """

    equals: str
    warning: str = ""


class Refused(NamedTuple):
    """Refused in one line that names the file.

    Attributes:
        code: Of the error.
        found: Words of its message.
    """

    code: str
    found: str


OUTCOMES: dict[str, Read | Refused] = {
    "n00_reference/image": Read("world"),
    "n01_4d_real/image": Refused("E_FORMAT", "one volume; got 128 x 96 x 24 x 2"),
    "n02_nan_inf/image": Refused("E_NONFINITE", "NaN or infinite"),
    "n03_sheared_affine/image": Read("voxels", "sheared"),
    "n04_oblique/image": Read("voxels"),
    "n05_single_slice/image": Read("world"),
    "n06_2d/image": Read("world"),
    "n07_truncated_gz/image": Refused("E_CORRUPT", "cut short"),
    "n08_constant/image": Read("own"),
    "n09_no_affine_codes/image": Read("voxels", "states no position"),
    "n10_rgb_real/image": Refused("E_FORMAT", "got RGB"),
    "n11_nifti2/image": Read("world"),
    "n12_big_endian/image": Read("world"),
    "n13_scl_slope/image": Read("world"),
    "n14_reoriented_LPS/image": Read("world"),
    "n15_reoriented_SAL/image": Read("world"),
    "n16_reoriented_LAS_lefthanded/image": Read("world"),
    "n17_tiny_3x3x3/image": Read("own"),
    "n18_label_mismatch/image": Read("world"),  # its label is refused, see below
    "n19_float64_int64/image": Read("world"),
    "n19_float64_int64/image_int64": Read("world"),
    "n20_zero_byte/image": Refused("E_CORRUPT", "0 bytes"),
    "n21_not_nifti/image": Refused("E_FORMAT", "something else"),
    "n22_4d_singleton/image": Read("world"),
    "n23_qform_sform_disagree/image": Read("world", "qform and sform disagree"),
}

READ = {case: outcome for case, outcome in OUTCOMES.items() if isinstance(outcome, Read)}
REFUSED = {case: outcome for case, outcome in OUTCOMES.items() if isinstance(outcome, Refused)}


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "volumes" / "EDGE"


class TestEdgeNifti:
    def test_every_file_has_its_outcome(self, folder: Path) -> None:
        files = {
            f"{path.parent.name}/{path.name.removesuffix('.nii.gz')}"
            for path in folder.glob("n*/image*.nii.gz")
        }

        assert files == OUTCOMES.keys()

    @pytest.mark.parametrize(("case", "outcome"), READ.items())
    def test_values_lie_where_they_should(
        self, folder: Path, table: ModalityTable, case: str, outcome: Read
    ) -> None:
        path = folder / f"{case}.nii.gz"
        reference = nib.load(folder / "n00_reference" / "image.nii.gz")
        expected = reference.get_fdata()

        image = settle_modality(read(path), "ct", table)

        assert image.pixels is not None
        assert image.grid.affine is not None
        np.testing.assert_array_equal(image.grid.affine, nib.load(path).affine)
        if outcome.equals == "voxels":
            np.testing.assert_array_equal(image.pixels[0], expected)
        elif outcome.equals == "world":
            voxels = np.indices(image.grid.shape).reshape(3, -1)
            to_reference = np.linalg.inv(reference.affine) @ image.grid.affine
            places = to_reference[:3, :3] @ voxels + to_reference[:3, 3:]
            nearest = np.rint(places).astype(int)
            np.testing.assert_allclose(places, nearest, atol=1e-3)
            np.testing.assert_array_equal(image.pixels.ravel(), expected[tuple(nearest)])
        else:
            np.testing.assert_array_equal(image.pixels.ravel(), nib.load(path).get_fdata().ravel())
        warned = [outcome.warning in note for note in image.warnings]
        assert warned == [True] * bool(outcome.warning)

    @pytest.mark.parametrize("case", READ)
    def test_a_mask_is_written_on_the_same_grid(
        self, folder: Path, table: ModalityTable, tmp_path: Path, case: str
    ) -> None:
        source = nib.load(folder / f"{case}.nii.gz")

        image = settle_modality(read(folder / f"{case}.nii.gz"), "ct", table)
        mask = np.zeros(image.file_shape or image.grid.shape, np.uint8)
        write_nifti(tmp_path / "mask.nii.gz", mask, geometry=image.nifti_geometry)

        written = nib.load(tmp_path / "mask.nii.gz")
        np.testing.assert_array_equal(written.affine, source.affine)
        assert written.shape == source.shape[:3]

    @pytest.mark.parametrize(("case", "outcome"), REFUSED.items())
    def test_refuses_in_one_line_that_names_the_file(
        self, folder: Path, table: ModalityTable, case: str, outcome: Refused
    ) -> None:
        path = folder / f"{case}.nii.gz"

        with pytest.raises(EspMedSamError, match=f"{path} must .*{outcome.found}") as caught:
            settle_modality(read(path), "ct", table)

        assert caught.value.code == outcome.code
        assert "\n" not in str(caught.value)

    def test_one_frame_of_4d_is_read_by_its_number(self, folder: Path) -> None:
        path = folder / "n01_4d_real" / "image.nii.gz"
        source = nib.load(path)

        content = read_nifti(path, 1)

        np.testing.assert_array_equal(content.pixels[0], source.get_fdata()[..., 1])
        np.testing.assert_array_equal(content.grid.affine, source.affine)
        assert content.warnings == (
            "The file holds 2 volumes; number 1, counted from 0, was read.",
        )

    def test_a_label_off_its_images_grid_is_refused(
        self, folder: Path, table: ModalityTable
    ) -> None:
        image = settle_modality(read(folder / "n18_label_mismatch" / "image.nii.gz"), "ct", table)

        with pytest.raises(OptionError, match="must lie on their image's grid"):
            MaskReader(image, table)(Mask(path=str(image.path).replace("image", "label")))


class TestSharedImages:
    def test_reads_every_volume_as_nibabel_does(self, shared: Path, table: ModalityTable) -> None:
        paths = sorted((shared / "volumes").glob("[CM]*/*/image.nii.gz"))
        assert paths

        for path in paths:
            image = settle_modality(read(path), "mri", table)
            source = nib.load(path)
            np.testing.assert_array_equal(image.grid.affine, source.affine)
            assert image.grid.shape == source.shape

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
            image = settle_modality(read(path), modality, table)
            assert image.pixels is not None
            assert image.pixels.shape[0] in (1, 3)
            assert image.warnings == ()
