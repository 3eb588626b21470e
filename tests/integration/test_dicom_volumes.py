"""What becomes of each DICOM folder of the shared test volumes, and of pydicom's own files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest

from esp_medsam.dicom import DicomSlice, DicomVolume, find_volumes
from esp_medsam.errors import CorruptFileError, EspMedSamError, FormatError, GeometryError


READ = {
    "CT/totalseg_ct_dicom": [((512, 512, 20), "")],
    "EDGE/d00_reference": [((128, 128, 20), "")],
    "EDGE/d01_missing_slice": [((128, 128, 19), r"4\.000 mm between .*009\.dcm and .*010\.dcm")],
    "EDGE/d03_inconsistent_spacing": [((128, 128, 20), "5.000 mm between .*7 more such gaps")],
    "EDGE/d05_mixed_series": [((128, 128, 5), ""), ((128, 128, 20), "")],
    "EDGE/d06_shuffled_order": [((128, 128, 20), "")],
    "EDGE/d07_single_slice": [((128, 128, 1), "SliceThickness, 3 mm")],
    "EDGE/d08_gantry_tilt": [((128, 128, 20), r"tilt, 15\.0 degrees")],
    "EDGE/d09_per_slice_rescale": [((128, 128, 20), "")],
    "EDGE/d10_no_preamble": [((128, 128, 20), "")],
    "EDGE/d14_localizer_in_series": [((128, 128, 20), ""), ((128, 128, 1), "one slice")],
    "EDGE/d15_empty_folder": [],
    "EDGE/d17_monochrome1": [((128, 128, 20), "")],
    "EDGE/p00_pacsman_rotated_axes": [((128, 128, 32), "")],
    "ENDO/nema_vl1_endoscopy": [((486, 756), "")],
    "ENDO/nema_vl2_endoscopy": [((486, 756), "")],
    "MRI/niivue_t1_dicom": [((512, 512, 24), "")],
    "MRI/torchio_t1_declared_ct": [((88, 128, 17), "")],
    "SEG/dcmqi_liver_ct3slice": [((512, 512, 3), "")],
    "SEG/highdicom_ct": [((16, 16, 4), "202.500 mm between")],
    "SEG/highdicom_sm_labelmap": [((10, 10, 25), "tiles of a slide")],
    "US/pydicom_echo_multiframe": [((240, 320, 30), "")],
    "US/pydicom_us_palette": [((350, 800), "")],
    "US/pydicom_us_rgb": [((240, 320), "")],
    "XR/highdicom_dx_dog": [((169, 211), "")],
    "XR/nema_rg2_hip_cr": [((2140, 1760), "")],
    "XR/nema_rg3_leg_cr": [((1760, 1760), "")],
}
"""Volumes of each folder in order: shape, and a warning that holds these words, or none."""

REFUSED = {
    "EDGE/d02_duplicate_slice": (GeometryError, r"006\.dcm and .*021\.dcm lie at the same place"),
    "EDGE/d04_truncated_file": (CorruptFileError, r"007\.dcm must hold 32768 .* got 15734"),
    "EDGE/d11_no_position": (GeometryError, "must state ImagePositionPatient"),
    "EDGE/d12_no_pixel_spacing": (GeometryError, "must state PixelSpacing"),
    "EDGE/d13_mixed_matrix": (GeometryError, r"128 x 128 in .*64 x 64 in .*005\.dcm"),
    "EDGE/d16_truncated_real": (CorruptFileError, "must hold 8192 bytes of pixels; got 8130"),
    "EDGE/r01_empty_uids_real": (FormatError, "must state SOPClassUID .* 19 more files"),
}
"""Refused, with this error."""

SAME_PLACES = ["d06_shuffled_order", "d09_per_slice_rescale", "d10_no_preamble", "d17_monochrome1"]
"""The reference again, in other files: slices at the same places."""


def folder_of(shared: Path, case: str) -> Path:
    return shared / "volumes" / case / "dicom"


class TestSharedVolumes:
    def test_every_folder_has_its_outcome(self, shared: Path) -> None:
        with (shared / "volumes" / "manifest.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["kind"].startswith("dicom series")]

        assert {row["file"].removesuffix("/dicom") for row in rows} == READ.keys() | REFUSED.keys()
        must_read = {r["file"].removesuffix("/dicom") for r in rows if r["expect"][:3] == "ok"}
        assert must_read - READ.keys() == set()

    @pytest.mark.parametrize("case", READ)
    def test_reads_what_is_whole(self, shared: Path, case: str) -> None:
        found = find_volumes(folder_of(shared, case))

        assert found.refused == ()
        assert [volume.grid.shape for volume in found.volumes] == [s for s, _ in READ[case]]
        for volume, (_, warning) in zip(found.volumes, READ[case], strict=True):
            assert len(volume.warnings) == bool(warning)
            if warning:
                with pytest.raises(UserWarning, match=warning):
                    raise UserWarning(volume.warnings[0])

    @pytest.mark.parametrize("case", READ)
    def test_slices_lie_where_their_headers_say(self, shared: Path, case: str) -> None:
        for volume in find_volumes(folder_of(shared, case)).volumes:
            assert_lies_where_its_headers_say(volume)

    @pytest.mark.parametrize("case", REFUSED)
    def test_refuses_the_rest_by_name(self, shared: Path, case: str) -> None:
        kind, message = REFUSED[case]

        found = find_volumes(folder_of(shared, case))

        assert found.volumes == ()
        ((_, error),) = found.refused
        assert type(error) is kind
        with pytest.raises(EspMedSamError, match=message):
            raise error

    @pytest.mark.parametrize("case", SAME_PLACES)
    def test_other_files_of_one_volume_lie_at_its_places(self, shared: Path, case: str) -> None:
        (reference,) = find_volumes(folder_of(shared, "EDGE/d00_reference")).volumes

        (volume,) = find_volumes(folder_of(shared, f"EDGE/{case}")).volumes

        assert volume.grid.affine is not None
        assert reference.grid.affine is not None
        np.testing.assert_array_equal(volume.grid.affine, reference.grid.affine)

    def test_foreign_files_are_named(self, shared: Path) -> None:
        found = find_volumes(folder_of(shared, "EDGE/d05_mixed_series"))

        assert [Path(other).name for other in found.others] == [".DS_Store", "README.txt"]

    @pytest.mark.parametrize(
        "case", ["dcmqi_liver_ct3slice", "highdicom_ct", "highdicom_sm_labelmap"]
    )
    def test_segmentations_are_no_images(self, shared: Path, case: str) -> None:
        folder = shared / "volumes" / "SEG" / case / "seg"

        found = find_volumes(folder)

        assert found.volumes == ()
        assert found.refused == ()
        assert len(found.others) == len(list(folder.iterdir()))

    def test_a_label_drawn_on_the_stack_has_its_grid(self, shared: Path) -> None:
        """The label was written by another tool: its grid is an independent witness."""
        nib = pytest.importorskip("nibabel")
        label = nib.load(shared / "volumes" / "CT" / "totalseg_ct_dicom" / "label.nii.gz")

        (volume,) = find_volumes(folder_of(shared, "CT/totalseg_ct_dicom")).volumes

        assert volume.grid.affine is not None
        assert label.shape == volume.grid.shape
        corners = np.array([[i, j, k, 1] for i in (0, 511) for j in (0, 511) for k in (0, 19)]).T
        theirs = label.affine @ corners
        ours = volume.grid.affine @ corners
        assert {tuple(p) for p in np.round(theirs[:3].T, 2)} == {
            tuple(p) for p in np.round(ours[:3].T, 2)
        }


PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


class TestFilesOfPydicom:
    @pytest.mark.parametrize("path", sorted(PYDICOM_FILES.glob("*.dcm")), ids=lambda p: p.stem)
    def test_each_file_is_read_refused_or_another(self, path: Path) -> None:
        found = find_volumes(path)

        assert len(found.volumes) + len(found.refused) + len(found.others) == 1
        for volume in found.volumes:
            assert_lies_where_its_headers_say(volume)

    @pytest.mark.parametrize(
        ("name", "shape"),
        [
            ("CT_small", (128, 128, 1)),
            ("MR_small", (64, 64, 1)),
            ("MR_small_RLE", (64, 64, 1)),
            ("MR_small_bigendian", (64, 64, 1)),
            ("MR_small_implicit", (64, 64, 1)),
            ("MR_small_jp2klossless", (64, 64, 1)),
            ("MR_small_jpeg_ls_lossless", (64, 64, 1)),
            ("MR_small_padded", (64, 64, 1)),
            ("image_dfl", (512, 512)),
            ("JPEG2000-embedded-sequence-delimiter", (1024, 256)),
            ("SC_rgb_rle_2frame", (100, 100, 2)),
            ("SC_rgb_small_odd_big_endian", (3, 3)),
            ("SC_ybr_full_422_uncompressed", (100, 100)),
            ("examples_ybr_color", (240, 320, 30)),
        ],
    )
    def test_reads_every_encoding(self, name: str, shape: tuple[int, ...]) -> None:
        (volume,) = find_volumes(PYDICOM_FILES / f"{name}.dcm").volumes

        assert volume.grid.shape == shape

    @pytest.mark.parametrize(
        "name", ["reportsi", "rtdose", "rtplan", "rtstruct", "test-SR", "waveform_ecg"]
    )
    def test_what_is_no_image_is_passed_over(self, name: str) -> None:
        found = find_volumes(PYDICOM_FILES / f"{name}.dcm")

        assert len(found.others) == 1

    @pytest.mark.parametrize(
        ("folder", "shapes"),
        [
            ("98892001/CT5N", [(16, 16, 5)]),
            ("98892001/CT2N", [(16, 16, 1)] * 2),
            ("77654033/CT2", [(16, 16, 4)]),
            ("77654033/CR1", [(16, 16)]),
            ("98892003/MR1", [(16, 16, 1)] * 3),
            ("98892003/MR2", [(16, 16, 1)] * 7),
            ("98892003/MR700", [(16, 16, 1)] * 7),
        ],
    )
    def test_reads_the_series_of_a_study(self, folder: str, shapes: list[tuple[int, ...]]) -> None:
        found = find_volumes(PYDICOM_FILES / "dicomdirtests" / folder)

        assert found.refused == ()
        assert [volume.grid.shape for volume in found.volumes] == shapes
        assert len({volume.name for volume in found.volumes}) == len(shapes)
        for volume in found.volumes:
            assert_lies_where_its_headers_say(volume)

    def test_images_without_pixels_are_refused_together(self) -> None:
        folder = PYDICOM_FILES / "dicomdirtests" / "TINY_ALPHA" / "PT000000" / "ST000000"

        found = find_volumes(folder / "SE000000")

        ((_, error),) = found.refused
        assert "must hold pixels" in str(error)
        assert "49 more files" in str(error)

    def test_a_dicomdir_is_no_image(self) -> None:
        found = find_volumes(PYDICOM_FILES / "dicomdirtests")

        assert found.volumes == ()
        assert found.refused == ()


def assert_lies_where_its_headers_say(volume: DicomVolume) -> None:
    """Check each slice against the formula of PS3.3 C.7.6.2.1.1, from pydicom's own values."""
    grid = volume.grid
    if not grid.is_positioned:
        assert grid.affine is None
        return
    assert grid.slice_affines is not None
    assert (grid.affine is None) == (grid.stack_axis == 2)
    columns, rows, _ = grid.shape
    for k, part in enumerate(volume.slices):
        for column, row in ((0, 0), (columns - 1, 0), (0, rows - 1), (columns - 1, rows - 1)):
            expected = stated_position(part, column, row)
            alone = grid.slice_affines[k] @ (column, row, 0, 1)
            np.testing.assert_allclose(alone[:3], expected, atol=5e-3)  # cosines are rounded
            if grid.affine is not None:
                there = grid.affine @ (column, row, k, 1)
                np.testing.assert_allclose(there[:3], expected, atol=2e-2)


def stated_position(part: DicomSlice, column: int, row: int) -> npt.NDArray[np.float64]:
    """Where a pixel lies, RAS+, by what the file says of position, orientation and spacing."""
    header = pydicom.dcmread(part.source.path, stop_before_pixels=True, force=True)
    assert header.SOPInstanceUID == part.source.sop_instance_uid
    position = np.array(header.ImagePositionPatient, dtype=float)
    across, down = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    between_rows, between_columns = (float(value) for value in header.PixelSpacing)
    place: npt.NDArray[np.float64] = (
        position + across * between_columns * column + down * between_rows * row
    )
    return place * (-1, -1, 1)
