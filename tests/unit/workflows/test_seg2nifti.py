from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from esp_medsam.cli.main import main
from esp_medsam.errors import EmptyInputError, GeometryError, InputNotFoundError, TooLargeError
from esp_medsam.image import Image
from esp_medsam.io.dicom_image import read_dicom
from esp_medsam.io.dicom_seg import SegOptions, write_dicom_seg
from esp_medsam.modality import ModalityTable
from esp_medsam.workflows.seg2nifti import Seg2Nifti
from esp_medsam.workflows.segment import SegmentResult


Write = Callable[..., np.ndarray]


def write_stack(folder: Path, places: list[float], **changes: Any) -> Path:
    """Write a slice that ships inside pydicom as a stack."""
    folder.mkdir()
    name = get_testdata_file("CT_small.dcm", download=False)
    assert isinstance(name, str)
    for number, place in enumerate(places):
        slice_ = dcmread(name)
        slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        slice_.ImagePositionPatient = [-40, 20, place]
        for keyword, value in changes.items():
            setattr(slice_, keyword, value)
        slice_.save_as(folder / f"{number}.dcm")
    return folder


@pytest.fixture
def image(tmp_path: Path, table: ModalityTable) -> Image:
    """A stack of five slices."""
    folder = write_stack(tmp_path / "ct", [0, 2, 4, 6, 8])
    return read_dicom(folder, modality="ct", table=table)


@pytest.fixture
def write(image: Image, table: ModalityTable, tmp_path: Path) -> Write:
    """Return a function that writes a segmentation of two targets and returns their masks."""

    def write(name: str, kind: str = "binary", *, overlap: bool = False) -> np.ndarray:
        masks = np.zeros((2, *image.spatial_shape), np.uint8)
        masks[0, 3:9, 5:8, 1:3] = masks[1, 20:40, 7:9, 2:4] = 1
        masks[1, 3, 5, 1] = overlap
        if kind == "fractional":
            masks *= np.array([200, 128], np.uint8)[:, None, None, None]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        targets = table.select("ct", ["liver", "kidney"])
        given = masks
        if kind == "labelmap":
            given = sum(m * t.label for m, t in zip(masks, targets, strict=True))[None]
            given = given.astype(np.uint8)
        assert write_dicom_seg(path, image, given, targets, SegOptions(kind=kind))
        return masks

    return write


def run(source: Path, output: Path, **options: Any) -> list[SegmentResult]:
    return list(Seg2Nifti(source, output, **options).results())


def one(source: Path, output: Path, **options: Any) -> SegmentResult:
    (result,) = run(source, output, **options)
    return result


def loaded(path: Path) -> tuple[np.ndarray, nib.Nifti1Image]:
    file = nib.load(path)
    return np.asarray(file.dataobj), file


class TestLabelmap:
    def test_reaches_from_the_first_plane_to_the_last(
        self, write: Write, image: Image, tmp_path: Path
    ) -> None:
        masks = write("seg.dcm")

        result = one(tmp_path / "seg.dcm", tmp_path / "out")

        values, file = loaded(tmp_path / "out/seg.nii.gz")
        assert result.status == "done"
        assert values.dtype == np.uint8
        np.testing.assert_array_equal(values, (masks[0] + 2 * masks[1])[..., 1:4])
        assert image.affine is not None
        np.testing.assert_allclose(file.affine[:3, 3], (image.affine @ [0, 0, 1, 1])[:3], atol=1e-4)
        np.testing.assert_allclose(file.affine[:3, :3], image.affine[:3, :3], atol=1e-5)

    def test_names_its_segments_in_header_and_record(self, write: Write, tmp_path: Path) -> None:
        write("seg.dcm", "labelmap")

        one(tmp_path / "seg.dcm", tmp_path / "out")

        values, file = loaded(tmp_path / "out/seg.nii.gz")
        record = json.loads((tmp_path / "out/seg.json").read_text(encoding="utf-8"))
        (extension,) = file.header.extensions
        assert b">liver</Label>" in extension.get_content()
        assert record["segmentation_type"] == "LABELMAP"
        assert record["source"]["path"] == str(tmp_path / "seg.dcm")
        assert record["files"] == ["seg.nii.gz"]
        by_label = {segment["label"]: segment for segment in record["segments"]}
        liver = by_label["liver"]
        assert liver["type"] == {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}
        assert liver["voxels"] == np.count_nonzero(values == liver["number"]) == 36
        assert {s["number"] for s in record["segments"]} == set(np.unique(values)) - {0}

    def test_of_a_name_without_an_ending_keeps_its_dots(self, write: Write, tmp_path: Path) -> None:
        write("1.2.840.7")

        one(tmp_path / "1.2.840.7", tmp_path / "out")

        assert (tmp_path / "out/1.2.840.7.nii.gz").is_file()

    def test_of_segments_that_overlap_is_refused(self, write: Write, tmp_path: Path) -> None:
        write("seg.dcm", overlap=True)

        result = one(tmp_path / "seg.dcm", tmp_path / "out")

        assert (result.status, result.code) == ("failed", "E_OPTION")
        assert "--split_segments" in result.message
        assert not (tmp_path / "out").exists()


class TestSplit:
    @pytest.mark.parametrize("kind", ["binary", "labelmap"])
    def test_segments_have_a_mask_each(self, write: Write, tmp_path: Path, kind: str) -> None:
        masks = write("seg.dcm", kind, overlap=kind == "binary")

        result = one(tmp_path / "seg.dcm", tmp_path / "out", split_segments=True)

        record = json.loads(Path(str(result.record)).read_text(encoding="utf-8"))
        files = {segment["label"]: segment["file"] for segment in record["segments"]}
        assert sorted(record["files"]) == sorted(files.values())
        for label, mask in zip(("liver", "kidney"), masks, strict=True):
            values, _ = loaded(tmp_path / "out" / files[label])
            np.testing.assert_array_equal(values, mask[..., 1:4])

    def test_fractions_are_what_readers_scale_to_1(self, write: Write, tmp_path: Path) -> None:
        masks = write("seg.dcm", "fractional")

        one(tmp_path / "seg.dcm", tmp_path / "out")

        values, file = loaded(tmp_path / "out/seg_segment1.nii.gz")
        np.testing.assert_allclose(values, masks[0][..., 1:4] / 255, atol=1e-6)
        assert file.get_data_dtype() == np.uint8


class TestLike:
    @pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
    def test_of_the_source_gives_its_whole_grid(
        self, write: Write, image: Image, tmp_path: Path, kind: str
    ) -> None:
        masks = write("seg.dcm", kind)

        one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "ct", split_segments=True)

        record = json.loads((tmp_path / "out/seg.json").read_text(encoding="utf-8"))
        by_label = {segment["label"]: segment["file"] for segment in record["segments"]}
        for label, mask in zip(("liver", "kidney"), masks, strict=True):
            values, file = loaded(tmp_path / "out" / by_label[label])
            scale = 1 / 255 if kind == "fractional" else 1
            np.testing.assert_allclose(values, mask * scale, atol=1e-6)
            np.testing.assert_allclose(file.affine, image.affine, atol=1e-5)

    def test_of_a_turned_nifti_gives_its_grid_and_header(
        self, write: Write, image: Image, tmp_path: Path
    ) -> None:
        masks = write("seg.dcm")
        assert image.affine is not None
        turned = nib.as_closest_canonical(nib.Nifti1Image(masks[0] + 2 * masks[1], image.affine))
        turned.set_sform(turned.affine, code=2)
        nib.save(turned, tmp_path / "image.nii")

        one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "image.nii")

        values, file = loaded(tmp_path / "out/seg.nii.gz")
        np.testing.assert_array_equal(values, np.asarray(turned.dataobj))
        np.testing.assert_array_equal(file.affine, turned.affine)
        assert int(file.header["sform_code"]) == 2

    @pytest.mark.parametrize("shift", [0.5, 400.0])
    def test_off_the_grid_is_refused(
        self, write: Write, image: Image, tmp_path: Path, shift: float
    ) -> None:
        write("seg.dcm")
        assert image.affine is not None
        affine = image.affine.copy()
        affine[2, 3] += shift
        nib.save(nib.Nifti1Image(np.zeros(image.spatial_shape), affine), tmp_path / "off.nii")

        result = one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "off.nii")

        assert (result.status, result.code) == ("failed", "E_GEOMETRY")
        assert not (tmp_path / "out").exists()

    def test_finer_than_the_segmentation_says_it_is_is_refused(
        self, write: Write, image: Image, tmp_path: Path
    ) -> None:
        write("seg.dcm")
        assert image.affine is not None
        affine = image.affine.copy()
        affine[:3, 2] /= 2
        nib.save(nib.Nifti1Image(np.zeros((128, 128, 10)), affine), tmp_path / "fine.nii")

        result = one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "fine.nii")

        assert (result.status, result.code) == ("failed", "E_GEOMETRY")

    def test_that_claims_more_than_fits_is_refused(self, write: Write, tmp_path: Path) -> None:
        write("seg.dcm")
        header = nib.Nifti2Header()
        header.set_data_dtype(np.uint8)
        header["dim"] = [3, 4, 4, 2**50, 1, 1, 1, 1]
        header["magic"], header["vox_offset"] = b"n+2", 544
        header.set_sform(np.eye(4), 1)
        (tmp_path / "bomb.nii").write_bytes(header.binaryblock + bytes(64))

        with pytest.raises(TooLargeError, match="4 x 4 x 1125899906842624"):
            Seg2Nifti(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "bomb.nii")

    def test_of_another_frame_of_reference_is_refused(self, write: Write, tmp_path: Path) -> None:
        write("seg.dcm")
        other = write_stack(tmp_path / "other", [0, 2, 4], FrameOfReferenceUID="1.2.3.4")

        result = one(tmp_path / "seg.dcm", tmp_path / "out", like=other)

        assert "Frame of Reference" in result.message
        assert "1.2.3.4" in result.message

    def test_of_several_series_takes_the_one_it_names(self, write: Write, tmp_path: Path) -> None:
        masks = write("seg.dcm")
        other = write_stack(tmp_path / "other", [0, 2, 4], SeriesInstanceUID="1.2.9")
        for number, path in enumerate(sorted(other.iterdir())):
            slice_ = dcmread(path)
            slice_.SOPInstanceUID = slice_.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.{number}"
            slice_.save_as(tmp_path / "ct" / f"other{number}.dcm")

        one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "ct")

        values, _ = loaded(tmp_path / "out/seg.nii.gz")
        np.testing.assert_array_equal(values, masks[0] + 2 * masks[1])

    def test_with_gaps_is_refused(self, write: Write, tmp_path: Path) -> None:
        write("seg.dcm")
        shutil.move(tmp_path / "ct/2.dcm", tmp_path / "gone.dcm")

        result = one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "ct")

        assert "not evenly spaced" in result.message

    def test_that_is_not_there_is_said_at_once(self, write: Write, tmp_path: Path) -> None:
        write("seg.dcm")

        with pytest.raises(InputNotFoundError, match="like must be an existing"):
            Seg2Nifti(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "nowhere")


class TestFolder:
    def test_goes_on_after_a_bad_file_and_counts_others(
        self, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("in/a/one.dcm")
        write("in/two.dcm")
        content = (tmp_path / "in/two.dcm").read_bytes()
        (tmp_path / "in/bad.dcm").write_bytes(content[: len(content) // 2])
        (tmp_path / "in/notes.txt").write_text("hello", encoding="utf-8")
        shutil.copy(tmp_path / "ct/0.dcm", tmp_path / "in/ct.dcm")

        status = main(["seg2nifti", str(tmp_path / "in"), str(tmp_path / "out")])

        shown = capsys.readouterr()
        assert status == 1
        assert shown.out == f"2 done, 0 kept, 1 failed; files are in {tmp_path / 'out'}.\n"
        assert "Left alone: 2 other files (ct.dcm, notes.txt)." in shown.err
        assert "E_CORRUPT" in shown.err
        assert (tmp_path / "out/a/one.nii.gz").is_file()
        assert (tmp_path / "out/two.nii.gz").is_file()

    def test_without_a_segmentation_is_refused(self, tmp_path: Path, image: Image) -> None:
        with pytest.raises(EmptyInputError, match="5 other files"):
            Seg2Nifti(tmp_path / "ct", tmp_path / "out")

    def test_names_that_would_be_one_are_refused(self, write: Write, tmp_path: Path) -> None:
        write("in/one.dcm")
        write("in/ONE.DCM")

        results = run(tmp_path / "in", tmp_path / "out")

        assert [result.code for result in results] == ["E_NAME_CLASH"] * 2


class TestExisting:
    def test_result_that_agrees_is_kept(self, write: Write, tmp_path: Path) -> None:
        write("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")
        before = (tmp_path / "out/seg.nii.gz").stat().st_mtime_ns

        result = one(tmp_path / "seg.dcm", tmp_path / "out")

        assert result.status == "kept"
        assert (tmp_path / "out/seg.nii.gz").stat().st_mtime_ns == before

    def test_result_on_another_grid_differs(self, write: Write, tmp_path: Path) -> None:
        write("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")

        result = one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "ct")

        assert result.code == "E_EXISTS"

    def test_result_that_differs_stays_unless_overwritten(
        self, write: Write, tmp_path: Path
    ) -> None:
        write("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")

        refused = one(tmp_path / "seg.dcm", tmp_path / "out", split_segments=True)
        assert (refused.code, "--overwrite" in refused.message) == ("E_EXISTS", True)
        one(tmp_path / "seg.dcm", tmp_path / "out", split_segments=True, overwrite=True)

        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["seg.json", "seg_segment1.nii.gz", "seg_segment2.nii.gz"]

    def test_file_of_another_is_kept(self, write: Write, tmp_path: Path) -> None:
        write("seg.dcm")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/seg.nii.gz").write_bytes(b"mine")

        result = one(tmp_path / "seg.dcm", tmp_path / "out")

        assert result.code == "E_EXISTS"
        assert (tmp_path / "out/seg.nii.gz").read_bytes() == b"mine"

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_record_of_segment_is_never_replaced(
        self, write: Write, tmp_path: Path, overwrite: bool
    ) -> None:
        write("ct_seg.dcm")
        text = json.dumps({"made_by": "esp-medsam", "modality": "ct"})
        (tmp_path / "ct_seg.json").write_text(text, encoding="utf-8")

        result = one(tmp_path / "ct_seg.dcm", tmp_path, overwrite=overwrite)

        assert (result.code, "no record of seg2nifti" in result.message) == ("E_EXISTS", True)
        assert (tmp_path / "ct_seg.json").read_text(encoding="utf-8") == text
        assert not (tmp_path / "ct_seg.nii.gz").exists()

    def test_record_that_names_files_elsewhere_removes_none(
        self, write: Write, tmp_path: Path
    ) -> None:
        write("seg.dcm")
        result = one(tmp_path / "seg.dcm", tmp_path / "out")
        record = json.loads(Path(str(result.record)).read_text(encoding="utf-8"))
        (tmp_path / "seg.nii.gz").write_bytes(b"mine")
        record["files"] = ["../seg.nii.gz", "other.nii.gz", 3]
        (tmp_path / "out/other.nii.gz").write_bytes(b"mine")
        (tmp_path / "out/seg.json").write_text(json.dumps(record), encoding="utf-8")

        one(tmp_path / "seg.dcm", tmp_path / "out", overwrite=True)

        assert (tmp_path / "seg.nii.gz").read_bytes() == b"mine"
        assert (tmp_path / "out/other.nii.gz").read_bytes() == b"mine"


class TestCommand:
    def test_refuses_a_file_for_a_folder(self, write: Write, tmp_path: Path) -> None:
        write("seg.dcm")
        (tmp_path / "out").write_text("mine", encoding="utf-8")

        assert one(tmp_path / "seg.dcm", tmp_path / "out").code == "E_OUTPUT"

    def test_refuses_what_is_no_segmentation_in_one_line(
        self, image: Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["seg2nifti", str(tmp_path / "ct/0.dcm"), str(tmp_path / "out")]) == 1

        assert "must be a DICOM Segmentation; it says it is CT Image" in capsys.readouterr().err

    def test_refuses_an_unknown_option_as_wrong_usage(self, tmp_path: Path) -> None:
        assert main(["seg2nifti", str(tmp_path), "out", "--colour"]) == 2

    def test_tells_warnings(
        self, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("seg.dcm")
        dataset = dcmread(tmp_path / "seg.dcm")
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = 3.3
        dataset.save_as(tmp_path / "seg.dcm")

        assert main(["seg2nifti", str(tmp_path / "seg.dcm"), str(tmp_path / "out")]) == 0

        shown = capsys.readouterr()
        assert "contradict the spacing of 3.3 mm" in shown.err
        assert shown.out.startswith("1 done, 0 kept, 0 failed")


def test_uneven_planes_have_no_nifti(write: Write, tmp_path: Path) -> None:
    write("seg.dcm")
    dataset = dcmread(tmp_path / "seg.dcm")
    for group in dataset.PerFrameFunctionalGroupsSequence:
        position = group.PlanePositionSequence[0].ImagePositionPatient
        position[2] += 0.1 * (position[2] == 4)
    dataset.save_as(tmp_path / "seg.dcm")

    result = one(tmp_path / "seg.dcm", tmp_path / "out")

    assert result.code == GeometryError.code
    assert "not evenly spaced" in result.message
