"""DICOM-SEG of others, real files: dcmqi's against their label, highdicom's against highdicom."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import UID

from esp_medsam.cli.main import main
from esp_medsam.dicom import read_segmentation
from esp_medsam.errors import FormatError
from tests.support.nifti import filled_places


CASES = ("dcmqi_liver_ct3slice", "highdicom_ct", "highdicom_sm_labelmap")

DCMQI = (
    "liver.dcm", "liver_j2k.dcm", "liver_nonbyte_aligned.dcm", "liver_nonbyte_aligned_j2k.dcm",
)  # fmt: skip
REFUSED = {
    "liver_rle.dcm": "RLE Lossless (1.2.840.10008.1.2.5)",
    "liver_nonbyte_aligned_rle.dcm": "RLE Lossless (1.2.840.10008.1.2.5)",
    "liver_deflate.dcm": "Deflated Image Frame Compression (1.2.840.10008.1.2.8.1)",
}
STACKS = (
    "seg_image_ct_binary.dcm", "seg_image_ct_binary_fractional.dcm",
    "seg_image_ct_binary_overlap.dcm", "seg_image_ct_binary_single_frame.dcm",
    "seg_image_ct_true_fractional.dcm",
)  # fmt: skip
SLIDES = (
    "seg_image_sm_control.dcm", "seg_image_sm_control_labelmap.dcm",
    "seg_image_sm_control_labelmap_palette_color.dcm",
)  # fmt: skip


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "volumes/SEG"


@pytest.fixture
def dcmqi(folder: Path) -> Path:
    return folder / CASES[0]


def placed(file: nib.Nifti1Image) -> set[tuple[float, ...]]:
    """Where voxels that hold anything lie, RAS+ to 0.01 mm."""
    return filled_places(np.asarray(file.dataobj), file.affine)


def test_every_file_is_one_of_those_asked_here(folder: Path) -> None:
    with (folder.parent / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["modality"] == "SEG"]
    counts = {
        row["case"]: int(re.findall(r"DICOM-SEG \((\d+) files\)", row["kind"])[0])
        for row in rows
        if row["file"].endswith("/seg")
    }
    known = {CASES[0]: {*DCMQI, *REFUSED}, CASES[1]: set(STACKS), CASES[2]: set(SLIDES)}

    for case, names in known.items():
        assert {path.name for path in (folder / case / "seg").iterdir()} == names
        assert counts[case] == len(names)
        assert json.loads((folder / case / "case.json").read_text())["modality"] == "SEG"


class TestDcmqi:
    @pytest.mark.parametrize("name", DCMQI)
    def test_file_is_the_label_voxel_by_voxel(self, dcmqi: Path, name: str) -> None:
        label = nib.load(dcmqi / "label_liver.nii.gz")
        expected = np.asarray(label.dataobj)

        read = read_segmentation(dcmqi / "seg" / name)

        affine = read.grid.affine
        assert affine is not None
        start = np.linalg.solve(label.affine, affine[:, 3])[:3]
        first = start.round().astype(int)
        columns, rows, planes = read.grid.shape
        crop = expected[
            first[0] : first[0] + columns, first[1] : first[1] + rows, first[2] : first[2] + planes
        ]
        np.testing.assert_allclose(start, first, atol=1e-3)
        np.testing.assert_allclose(affine[:3, :3], label.affine[:3, :3], atol=1e-6)
        np.testing.assert_array_equal(read.mask(1), crop)
        np.testing.assert_array_equal(read.labelmap(), crop)
        assert np.count_nonzero(crop) == 107098

    @pytest.mark.parametrize("name", DCMQI)
    def test_file_is_the_label_in_space(self, dcmqi: Path, tmp_path: Path, name: str) -> None:
        assert main(["seg2nifti", str(dcmqi / "seg" / name), str(tmp_path)]) == 0

        found = nib.load(tmp_path / f"{Path(name).stem}.nii.gz")
        label = nib.load(dcmqi / "label_liver.nii.gz")
        assert placed(found) == placed(label)

    @pytest.mark.parametrize("like", ["dicom", "label.nii.gz"])
    @pytest.mark.parametrize("name", ["liver.dcm", "liver_j2k.dcm"])
    def test_file_on_the_grid_of_its_source_is_the_label(
        self, dcmqi: Path, tmp_path: Path, name: str, like: str
    ) -> None:
        command = ["seg2nifti", str(dcmqi / "seg" / name), str(tmp_path), "--like"]

        assert main([*command, str(dcmqi / like)]) == 0

        found = nib.load(tmp_path / f"{Path(name).stem}.nii.gz")
        label = nib.load(dcmqi / "label_liver.nii.gz")
        np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(label.dataobj))
        np.testing.assert_allclose(found.affine, label.affine, atol=1e-4)

    def test_smaller_frames_fill_the_grid_of_their_source(
        self, dcmqi: Path, tmp_path: Path
    ) -> None:
        source = dcmqi / "seg/liver_nonbyte_aligned.dcm"

        assert main(["seg2nifti", str(source), str(tmp_path), "--like", str(dcmqi / "dicom")]) == 0

        found = nib.load(tmp_path / "liver_nonbyte_aligned.nii.gz")
        assert found.shape == (512, 512, 3)
        assert placed(found) == placed(nib.load(dcmqi / "label_liver.nii.gz"))

    @pytest.mark.parametrize("name", REFUSED)
    def test_file_that_nothing_here_decodes_is_refused_by_name(
        self, dcmqi: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = dcmqi / "seg" / name
        with pytest.raises(FormatError, match=re.escape(REFUSED[name])):
            read_segmentation(path)

        assert main(["seg2nifti", str(path), str(tmp_path / "out")]) == 1

        shown = capsys.readouterr()
        assert REFUSED[name] in shown.err
        assert "Traceback" not in shown.err
        assert not (tmp_path / "out").exists()

    def test_refusals_match_what_pydicom_can_do(self, dcmqi: Path) -> None:
        """Once pydicom decodes them right, they are to be read."""
        for name, said in REFUSED.items():
            dataset = dcmread(dcmqi / "seg" / name)
            assert UID(dataset.file_meta.TransferSyntaxUID) in said
            with pytest.raises((RuntimeError, NotImplementedError, ValueError)):
                _ = dataset.pixel_array


class TestHighdicom:
    @pytest.mark.parametrize("name", STACKS)
    def test_stack_is_what_highdicom_decodes(self, folder: Path, name: str) -> None:
        path = folder / CASES[1] / "seg" / name
        theirs = hd.seg.segread(path)
        volume = theirs.get_volume(allow_missing_positions=True, rescale_fractional=False)

        read = read_segmentation(path)

        order = [theirs.segment_numbers.index(segment.number) for segment in read.segments]
        for place, segment in zip(order, read.segments, strict=True):
            ours = nib.Nifti1Image(read.mask(segment.number), read.grid.affine)
            ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
            other = nib.Nifti1Image(volume.array[..., place].astype(np.uint8), ras)
            assert np.count_nonzero(ours.dataobj) > 0
            assert placed(ours) == placed(other)
            values = [
                sorted(np.asarray(x.dataobj)[np.asarray(x.dataobj) != 0]) for x in (ours, other)
            ]
            assert values[0] == values[1]

    @pytest.mark.parametrize("name", STACKS)
    def test_frame_is_the_plane_that_it_says(self, folder: Path, name: str) -> None:
        path = folder / CASES[1] / "seg" / name
        theirs = hd.seg.segread(path)
        read = read_segmentation(path)
        affine = read.grid.affine
        assert affine is not None

        shared = theirs.SharedFunctionalGroupsSequence[0]
        for k, group in enumerate(theirs.PerFrameFunctionalGroupsSequence, start=1):
            place = group if "PlanePositionSequence" in group else shared
            position = place.PlanePositionSequence[0].ImagePositionPatient
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            at = np.linalg.solve(affine, [-position[0], -position[1], position[2], 1])
            np.testing.assert_allclose(at[:2], 0, atol=1e-3)
            found = read.mask(number)[..., round(at[2])]
            np.testing.assert_array_equal(found, theirs.get_stored_frame(k).T)

    @pytest.mark.parametrize("name", SLIDES)
    def test_slide_is_what_highdicom_lays_together(
        self, folder: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = folder / CASES[2] / "seg" / name
        theirs = hd.seg.segread(path)
        expected = theirs.get_total_pixel_matrix(combine_segments=True)

        read = read_segmentation(path)

        assert len(np.unique(expected)) == 20  # segment 2 is described, and nowhere
        np.testing.assert_array_equal(read.labelmap(), expected)
        np.testing.assert_array_equal(read.mask(7), expected == 7)
        assert main(["seg2nifti", str(path), str(tmp_path)]) == 1
        assert "tiles lie on glass" in capsys.readouterr().err

    def test_kinds_of_slide_are_the_same(self, folder: Path) -> None:
        maps = [read_segmentation(folder / CASES[2] / "seg" / n).labelmap() for n in SLIDES]

        np.testing.assert_array_equal(maps[0], maps[1])
        np.testing.assert_array_equal(maps[0], maps[2])

    def test_fractions_are_scaled_by_the_header(self, folder: Path, tmp_path: Path) -> None:
        path = folder / CASES[1] / "seg/seg_image_ct_true_fractional.dcm"
        volume = hd.seg.segread(path).get_volume(rescale_fractional=True)

        assert main(["seg2nifti", str(path), str(tmp_path)]) == 0

        found = nib.load(tmp_path / "seg_image_ct_true_fractional_segment1.nii.gz").get_fdata()
        assert 0 < found.max() <= 1
        np.testing.assert_allclose(
            np.sort(found, axis=None), np.sort(volume.array, axis=None), atol=1e-6
        )
