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

from esp_medsam.cli.main import main
from esp_medsam.errors import EmptyInputError, GeometryError, InputNotFoundError, TooLargeError
from esp_medsam.image import Image
from esp_medsam.io import file_names
from esp_medsam.workflows.results import ItemResult
from esp_medsam.workflows.seg2nifti import Seg2Nifti
from tests.support.nifti import save_nifti


Write = Callable[..., np.ndarray]


def run(source: Path, output: Path, **options: Any) -> list[ItemResult]:
    return list(Seg2Nifti(source, output, **options).results())


def one(source: Path, output: Path, **options: Any) -> ItemResult:
    (result,) = run(source, output, **options)
    return result


def loaded(path: Path) -> tuple[np.ndarray, nib.Nifti1Image]:
    file = nib.load(path)
    return np.asarray(file.dataobj), file


class TestLabelmap:
    def test_reaches_from_the_first_plane_to_the_last(
        self, write_seg: Write, ct_stack: Image, tmp_path: Path
    ) -> None:
        masks = write_seg("seg.dcm")

        result = one(tmp_path / "seg.dcm", tmp_path / "out")

        values, file = loaded(tmp_path / "out/seg.nii.gz")
        assert result.status == "done"
        assert values.dtype == np.uint8
        np.testing.assert_array_equal(values, (masks[0] + 2 * masks[1])[..., 1:4])
        assert ct_stack.grid.affine is not None
        np.testing.assert_allclose(
            file.affine[:3, 3], (ct_stack.grid.affine @ [0, 0, 1, 1])[:3], atol=1e-4
        )
        np.testing.assert_allclose(file.affine[:3, :3], ct_stack.grid.affine[:3, :3], atol=1e-5)

    def test_names_its_segments_in_header_and_record(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("seg.dcm", "labelmap")

        one(tmp_path / "seg.dcm", tmp_path / "out")

        values, file = loaded(tmp_path / "out/seg.nii.gz")
        record = json.loads((tmp_path / "out/seg.json").read_text(encoding="utf-8"))
        (extension,) = file.header.extensions
        assert b">Liver</Label>" in extension.get_content()
        assert record["segmentation_type"] == "LABELMAP"
        assert record["source"]["path"] == "seg.dcm"
        assert file_names(record) == ["seg.nii.gz"]
        by_label = {segment["label"]: segment for segment in record["segments"]}
        liver = by_label["Liver"]
        assert liver["type"] == {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}
        assert liver["voxels"] == np.count_nonzero(values == liver["number"]) == 36
        assert {s["number"] for s in record["segments"]} == set(np.unique(values)) - {0}

    def test_of_a_name_without_an_ending_keeps_its_dots(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("1.2.840.7")

        one(tmp_path / "1.2.840.7", tmp_path / "out")

        assert (tmp_path / "out/1.2.840.7.nii.gz").is_file()

    def test_of_segments_that_overlap_is_refused(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("seg.dcm", overlap=True)

        result = one(tmp_path / "seg.dcm", tmp_path / "out")

        assert (result.status, result.code) == ("failed", "E_OPTION")
        assert "`split_segments`" in result.message
        assert not (tmp_path / "out").exists()

    def test_is_made_of_fractions_that_are_0_and_1(self, write_seg: Write, tmp_path: Path) -> None:
        masks = write_seg("seg.dcm")
        dataset = dcmread(tmp_path / "seg.dcm")
        dataset.PixelData = dataset.pixel_array.astype(np.uint8).tobytes()
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.SegmentationType, dataset.SegmentationFractionalType = "FRACTIONAL", "PROBABILITY"
        dataset.MaximumFractionalValue = 1
        dataset.save_as(tmp_path / "seg.dcm")

        one(tmp_path / "seg.dcm", tmp_path / "out")

        values, _ = loaded(tmp_path / "out/seg.nii.gz")
        assert values.dtype == np.uint8
        np.testing.assert_array_equal(values, (masks[0] + 2 * masks[1])[..., 1:4])


class TestSplit:
    @pytest.mark.parametrize("kind", ["binary", "labelmap"])
    def test_segments_have_a_mask_each(self, write_seg: Write, tmp_path: Path, kind: str) -> None:
        masks = write_seg("seg.dcm", kind, overlap=kind == "binary")

        result = one(tmp_path / "seg.dcm", tmp_path / "out", split_segments=True)

        record = json.loads(Path(str(result.record)).read_text(encoding="utf-8"))
        files = {segment["label"]: segment["file"] for segment in record["segments"]}
        assert sorted(file_names(record)) == sorted(files.values())
        for label, mask in zip(("Liver", "Kidney"), masks, strict=True):
            values, _ = loaded(tmp_path / "out" / files[label])
            np.testing.assert_array_equal(values, mask[..., 1:4])

    def test_leave_nothing_where_one_of_them_cannot_be_written(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("seg.dcm")
        (tmp_path / "out/seg_segment2.nii.gz").mkdir(parents=True)

        result = one(tmp_path / "seg.dcm", tmp_path / "out", split_segments=True, overwrite=True)

        assert (result.status, result.code) == ("failed", "E_OUTPUT")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["seg_segment2.nii.gz"]

    def test_fractions_are_what_readers_scale_to_1(self, write_seg: Write, tmp_path: Path) -> None:
        masks = write_seg("seg.dcm", "fractional")

        one(tmp_path / "seg.dcm", tmp_path / "out")

        values, file = loaded(tmp_path / "out/seg_segment1.nii.gz")
        np.testing.assert_allclose(values, masks[0][..., 1:4] / 255, atol=1e-6)
        assert file.get_data_dtype() == np.uint8


class TestLike:
    @pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
    def test_of_the_source_gives_its_whole_grid(
        self, write_seg: Write, ct_stack: Image, tmp_path: Path, kind: str
    ) -> None:
        masks = write_seg("seg.dcm", kind)

        one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "ct", split_segments=True)

        record = json.loads((tmp_path / "out/seg.json").read_text(encoding="utf-8"))
        by_label = {segment["label"]: segment["file"] for segment in record["segments"]}
        for label, mask in zip(("Liver", "Kidney"), masks, strict=True):
            values, file = loaded(tmp_path / "out" / by_label[label])
            scale = 1 / 255 if kind == "fractional" else 1
            np.testing.assert_allclose(values, mask * scale, atol=1e-6)
            np.testing.assert_allclose(file.affine, ct_stack.grid.affine, atol=1e-5)

    def test_of_a_turned_nifti_gives_its_grid_and_header(
        self, write_seg: Write, ct_stack: Image, tmp_path: Path
    ) -> None:
        masks = write_seg("seg.dcm")
        assert ct_stack.grid.affine is not None
        turned = nib.as_closest_canonical(
            nib.Nifti1Image(masks[0] + 2 * masks[1], ct_stack.grid.affine)
        )
        turned.set_sform(turned.affine, code=2)
        nib.save(turned, tmp_path / "image.nii")

        one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "image.nii")

        values, file = loaded(tmp_path / "out/seg.nii.gz")
        np.testing.assert_array_equal(values, np.asarray(turned.dataobj))
        np.testing.assert_array_equal(file.affine, turned.affine)
        assert int(file.header["sform_code"]) == 2

    @pytest.mark.parametrize("shift", [0.5, 400.0])
    def test_off_the_grid_is_refused(
        self, write_seg: Write, ct_stack: Image, tmp_path: Path, shift: float
    ) -> None:
        write_seg("seg.dcm")
        assert ct_stack.grid.affine is not None
        affine = ct_stack.grid.affine.copy()
        affine[2, 3] += shift
        save_nifti(tmp_path / "off.nii", np.zeros(ct_stack.grid.shape), affine)

        result = one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "off.nii")

        assert (result.status, result.code) == ("failed", "E_GEOMETRY")
        assert not (tmp_path / "out").exists()

    def test_finer_than_the_segmentation_says_it_is_is_refused(
        self, write_seg: Write, ct_stack: Image, tmp_path: Path
    ) -> None:
        write_seg("seg.dcm")
        assert ct_stack.grid.affine is not None
        affine = ct_stack.grid.affine.copy()
        affine[:3, 2] /= 2
        save_nifti(tmp_path / "fine.nii", np.zeros((128, 128, 10)), affine)

        result = one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "fine.nii")

        assert (result.status, result.code) == ("failed", "E_GEOMETRY")

    def test_that_claims_more_than_fits_is_refused(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("seg.dcm")
        header = nib.Nifti2Header()
        header.set_data_dtype(np.uint8)
        header["dim"] = [3, 4, 4, 2**50, 1, 1, 1, 1]
        header["magic"], header["vox_offset"] = b"n+2", 544
        header.set_sform(np.eye(4), 1)
        (tmp_path / "bomb.nii").write_bytes(header.binaryblock + bytes(64))

        with pytest.raises(TooLargeError, match="4 x 4 x 1125899906842624"):
            Seg2Nifti(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "bomb.nii")

    def test_of_another_frame_of_reference_is_refused(
        self, write_seg: Write, write_stack: Callable[..., Path], tmp_path: Path
    ) -> None:
        write_seg("seg.dcm")
        other = write_stack(tmp_path / "other", [0, 2, 4], FrameOfReferenceUID="1.2.3.4")

        result = one(tmp_path / "seg.dcm", tmp_path / "out", like=other)

        assert "Frame of Reference" in result.message
        assert "1.2.3.4" in result.message

    def test_of_several_series_takes_the_one_it_names(
        self, write_seg: Write, write_stack: Callable[..., Path], tmp_path: Path
    ) -> None:
        masks = write_seg("seg.dcm")
        other = write_stack(tmp_path / "other", [0, 2, 4], "1.2.9", SeriesInstanceUID="1.2.9")
        for path in other.iterdir():
            path.rename(tmp_path / "ct" / f"other{path.name}")

        one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "ct")

        values, _ = loaded(tmp_path / "out/seg.nii.gz")
        np.testing.assert_array_equal(values, masks[0] + 2 * masks[1])

    def test_with_gaps_is_refused(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("seg.dcm")
        shutil.move(tmp_path / "ct/2.dcm", tmp_path / "gone.dcm")

        result = one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "ct")

        assert "not evenly spaced" in result.message

    def test_that_is_not_there_is_said_at_once(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("seg.dcm")

        with pytest.raises(InputNotFoundError, match="like must be an existing"):
            Seg2Nifti(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "nowhere")


class TestFolder:
    def test_goes_on_after_a_bad_file_and_counts_others(
        self, write_seg: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_seg("in/a/one.dcm")
        write_seg("in/two.dcm")
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

    def test_without_a_segmentation_is_refused(self, tmp_path: Path, ct_stack: Image) -> None:
        with pytest.raises(EmptyInputError, match="5 other files"):
            Seg2Nifti(tmp_path / "ct", tmp_path / "out")

    def test_names_that_would_be_one_are_refused(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("in/one.dcm")
        write_seg("in/ONE.DCM")
        write_seg("in/a/two.dcm")
        write_seg("in/a/Two.dcm")

        results = run(tmp_path / "in", tmp_path / "out")

        assert [result.code for result in results] == ["E_NAME_CLASH"] * 4
        for result in results:
            is_one = "one" in Path(result.path).name.lower()
            assert ("one.dcm" in result.message.lower()) == is_one
            assert ("two.dcm" in result.message.lower()) == (not is_one)

    def test_a_name_that_is_that_of_another_one_s_segment_is_refused(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        for name in ("liver.dcm", "Liver_Segment1.dcm", "liver_segment.dcm", "spleen_segment2.dcm"):
            write_seg(f"in/{name}")

        results = {
            Path(result.path).name: result.code
            for result in run(tmp_path / "in", tmp_path / "out", split_segments=True)
        }

        assert results == {
            "liver.dcm": "E_NAME_CLASH",
            "Liver_Segment1.dcm": "E_NAME_CLASH",
            "liver_segment.dcm": None,
            "spleen_segment2.dcm": None,
        }

    def test_a_file_of_another_result_stays_whatever_is_asked_for(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("liver_segment1.dcm")
        write_seg("liver.dcm")
        one(tmp_path / "liver_segment1.dcm", tmp_path / "out")
        before = (tmp_path / "out/liver_segment1.nii.gz").read_bytes()

        result = one(tmp_path / "liver.dcm", tmp_path / "out", split_segments=True, overwrite=True)

        assert result.code == "E_EXISTS"
        assert "the result of" in str(result.message)
        assert (tmp_path / "out/liver_segment1.nii.gz").read_bytes() == before
        assert not (tmp_path / "out/liver.json").exists()


class TestCommand:
    def test_refuses_a_file_for_a_folder(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("seg.dcm")
        (tmp_path / "out").write_text("mine", encoding="utf-8")

        assert one(tmp_path / "seg.dcm", tmp_path / "out").code == "E_OUTPUT"

    def test_refuses_what_is_no_segmentation_in_one_line(
        self, ct_stack: Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["seg2nifti", str(tmp_path / "ct/0.dcm"), str(tmp_path / "out")]) == 1

        shown = capsys.readouterr()
        assert shown.out == "0 done, 0 kept, 1 failed.\n"  # nor is OUT made
        assert "must be a DICOM Segmentation; it is CT Image" in shown.err

    def test_refuses_an_unknown_option_as_wrong_usage(self, tmp_path: Path) -> None:
        assert main(["seg2nifti", str(tmp_path), "out", "--colour"]) == 2

    def test_tells_warnings(
        self, write_seg: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_seg("seg.dcm")
        dataset = dcmread(tmp_path / "seg.dcm")
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SpacingBetweenSlices = 3.3
        dataset.save_as(tmp_path / "seg.dcm")

        assert main(["seg2nifti", str(tmp_path / "seg.dcm"), str(tmp_path / "out")]) == 0

        shown = capsys.readouterr()
        assert "spacing of 3.3 mm" in shown.err
        assert shown.out.startswith("1 done, 0 kept, 0 failed")


def test_uneven_planes_have_no_nifti(write_seg: Write, tmp_path: Path) -> None:
    write_seg("seg.dcm")
    dataset = dcmread(tmp_path / "seg.dcm")
    for group in dataset.PerFrameFunctionalGroupsSequence:
        position = group.PlanePositionSequence[0].ImagePositionPatient
        position[2] += 0.1 * (position[2] == 4)
    dataset.save_as(tmp_path / "seg.dcm")

    result = one(tmp_path / "seg.dcm", tmp_path / "out")

    assert result.code == GeometryError.code
    assert "not evenly spaced" in result.message
