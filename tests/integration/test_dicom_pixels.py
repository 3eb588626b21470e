"""The pixels of every DICOM folder of the shared test volumes, against pydicom's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.pixels import apply_color_lut, apply_modality_lut

from esp_medsam.dicom.modality import resolve_modality
from esp_medsam.dicom.pixels import DicomPixels, read_pixels
from esp_medsam.dicom.scan import find_volumes
from esp_medsam.dicom.volume import DicomVolume
from esp_medsam.errors import ModalityConflictError, ModalityError
from esp_medsam.modality import ModalityTable


REFUSED = frozenset(
    {
        "d02_duplicate_slice",
        "d04_truncated_file",
        "d11_no_position",
        "d12_no_pixel_spacing",
        "d13_mixed_matrix",
        "d16_truncated_real",
        "r01_empty_uids_real",
    }
)
"""Cases whose headers alone are reason enough; see the test of what is found."""

RESCALED_UNIT = {
    "totalseg_ct_dicom": "HU",
    "d00_reference": "HU",
    "d05_mixed_series": None,
    "torchio_t1_declared_ct": None,
    "niivue_t1_dicom": None,
    "dcmqi_liver_ct3slice": "HU",
    "pydicom_us_rgb": None,
}
"""Unit of the first volume of some cases."""

MODALITIES = {
    "totalseg_ct_dicom": "ct",
    "p00_pacsman_rotated_axes": "mri",
    "niivue_t1_dicom": "mri",
    "pydicom_us_palette": "ultrasound",
    "pydicom_echo_multiframe": "ultrasound",
    "highdicom_dx_dog": "xray",
    "nema_rg2_hip_cr": "xray",
    "highdicom_sm_labelmap": "microscopy",
}
"""What the files of some cases say they show."""


def case(shared: Path, name: str) -> tuple[DicomVolume, ...]:
    """The volumes of the case called ``name``."""
    (folder,) = (shared / "volumes").glob(f"*/{name}/dicom")
    return find_volumes(folder).volumes


def read(shared: Path, name: str) -> DicomPixels:
    (volume,) = case(shared, name)
    return read_pixels(volume)


def as_pydicom_reads(volume: DicomVolume, number: int) -> npt.NDArray[np.generic]:
    """One slice, ``(rows, columns[, 3])``, rescaled or colored by pydicom."""
    piece = volume.slices[number]
    dataset = dcmread(piece.source.path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    array = dataset.pixel_array
    if piece.source.frame is not None:
        array = array[piece.source.frame - 1]
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(array, dataset) >> 8
    return apply_modality_lut(array, dataset) if array.ndim == 2 else array


class TestEveryFolder:
    def test_values_are_those_of_pydicom(self, shared: Path) -> None:
        folders = sorted((shared / "volumes").glob("*/*/dicom"))
        count = 0
        for folder in folders:
            for volume in find_volumes(folder).volumes:
                count += 1
                pixels = read_pixels(volume).pixels
                assert pixels.shape[1:] == volume.grid.shape, folder
                assert pixels.dtype in (np.uint8, np.int16, np.int32, np.float32), folder
                for number in {0, len(volume.slices) // 2, len(volume.slices) - 1}:
                    expected = as_pydicom_reads(volume, number)
                    found = pixels[..., number] if pixels.ndim == 4 else pixels
                    if volume.grid.is_positioned:
                        found = found.swapaxes(1, 2)
                    found = found[0] if expected.ndim == 2 else np.moveaxis(found, 0, -1)
                    np.testing.assert_array_equal(found, expected, err_msg=str(folder))

        assert len(folders) >= 30
        assert count >= 25

    def test_what_headers_refuse_is_never_read(self, shared: Path) -> None:
        for name in REFUSED:
            assert case(shared, name) == (), name

    @pytest.mark.parametrize(("name", "unit"), RESCALED_UNIT.items())
    def test_the_unit_is_what_the_files_say(
        self, shared: Path, name: str, unit: str | None
    ) -> None:
        volume = next(v for v in case(shared, name) if (v.dicom_modality == "CT") or unit is None)

        assert read_pixels(volume).unit == unit


class TestTwins:
    def test_jpeg_2000_is_what_it_was_made_from(self, shared: Path) -> None:
        """The reference case is every fourth pixel of the compressed series."""
        compressed = read(shared, "totalseg_ct_dicom").pixels
        reference = read(shared, "d00_reference").pixels

        assert compressed.dtype == reference.dtype == np.int16
        np.testing.assert_array_equal(compressed[:, ::4, ::4, :], reference)

    @pytest.mark.parametrize("name", ["d09_per_slice_rescale", "d10_no_preamble"])
    def test_equal_the_reference(self, shared: Path, name: str) -> None:
        np.testing.assert_array_equal(
            read(shared, name).pixels, read(shared, "d00_reference").pixels
        )

    def test_shuffled_files_equal_the_reference(self, shared: Path) -> None:
        np.testing.assert_array_equal(
            read(shared, "d06_shuffled_order").pixels, read(shared, "d00_reference").pixels
        )

    def test_monochrome1_is_left_as_stored_and_said(self, shared: Path) -> None:
        """Each slice is turned about its own greatest value, which no header can say."""
        turned, reference = read(shared, "d17_monochrome1"), read(shared, "d00_reference")

        assert (turned.inverted, reference.inverted) == (True, False)
        assert len(turned.warnings) == 1
        sums = turned.pixels.astype(int) + reference.pixels
        assert (np.ptp(sums, axis=(0, 1, 2)) == 0).all()


class TestPictures:
    def test_a_cine_keeps_its_frames(self, shared: Path) -> None:
        cine = read(shared, "pydicom_echo_multiframe")

        assert cine.pixels.shape == (3, 240, 320, 30)
        assert len(cine.ultrasound_regions) == 1

    def test_radiographs_say_how_they_are_shown(self, shared: Path) -> None:
        hip, leg = read(shared, "nema_rg2_hip_cr"), read(shared, "nema_rg3_leg_cr")

        assert (hip.window, hip.inverted) == ((-1.0, 1022.0), False)
        assert (leg.window, leg.inverted) == ((38.0, 1061.0), True)
        assert read(shared, "highdicom_dx_dog").inverted


class TestModality:
    @pytest.mark.parametrize(("name", "modality"), MODALITIES.items())
    def test_is_what_the_files_say(
        self, shared: Path, table: ModalityTable, name: str, modality: str
    ) -> None:
        volume = case(shared, name)[0]

        found = resolve_modality(
            volume.dicom_modality, volume.sop_class_uid, None, table, source=volume.name
        )

        assert found == (modality, "dicom")

    def test_a_brain_declared_ct_is_a_conflict(self, shared: Path, table: ModalityTable) -> None:
        (volume,) = case(shared, "torchio_t1_declared_ct")
        said = (volume.dicom_modality, volume.sop_class_uid, "mri", table)

        with pytest.raises(ModalityConflictError, match=r"got mri.*'CT' \(ct\)"):
            resolve_modality(*said, source=volume.name)
        assert resolve_modality(*said, force=True, source=volume.name) == ("mri", "forced")

    def test_a_secondary_capture_leaves_it_open(self, shared: Path, table: ModalityTable) -> None:
        (volume,) = case(shared, "nema_vl1_endoscopy")
        said = (volume.dicom_modality, volume.sop_class_uid)

        with pytest.raises(ModalityError, match="must be given"):
            resolve_modality(*said, None, table, source=volume.name)
        assert resolve_modality(*said, "endoscopy", table, source=volume.name) == (
            "endoscopy",
            "user",
        )
