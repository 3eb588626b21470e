"""DICOM through the bundle's own configuration: series that ship inside pydicom, and made ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread, examples
from pydicom.uid import generate_uid

from esp_medsam.dicom import scan
from esp_medsam.errors import EmptyInputError, ModalityError, explain
from esp_medsam.io import file_names
from esp_medsam.workflows.pipeline import build_run
from esp_medsam.workflows.results import ItemResult
from tests.support.shipped_dicom import copy_shipped


BUNDLE = Path(__file__).parents[2] / "bundle"


Run = Callable[..., list[ItemResult]]


@pytest.fixture
def run(tmp_path: Path, weights: Path) -> Run:
    def segment(folder: Path, **options: Any) -> list[ItemResult]:
        settings = {"input_size": [64, 64], "ckpt_path": str(weights), "device": "cpu", **options}
        driven = build_run(
            BUNDLE, dataset_dir=str(folder), output_dir=str(tmp_path / "out"), **settings
        )
        return list(driven.results())

    return segment


def write_series(
    folder: Path, positions: list[float], uid: str | None = None, **attributes: Any
) -> str:
    """Write slices of pydicom's CT as a series; returns its UID."""
    uid = uid or generate_uid()
    # Written last slice first: their order in the folder says nothing.
    for number, z in reversed(list(enumerate(positions))):
        stated = {
            "SeriesInstanceUID": uid,
            "SOPInstanceUID": generate_uid(),
            "ImagePositionPatient": [-100.5, 20.0, z],
            "InstanceNumber": number + 1,
        }
        copy_shipped(folder / f"{len(positions) - number}", **{**stated, **attributes})
    return uid


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # MONAI wraps ours
        action()
    line = explain(caught.value)
    assert line is not None
    return line


class TestSegmentDicom:
    def test_the_unit_of_a_ct_is_the_users_word_where_its_files_leave_it_open(
        self, tmp_path: Path, run: Run
    ) -> None:
        uid = write_series(tmp_path / "in", [10.0, 12.5, 15.0], RescaleType="US")

        (refused,) = run(tmp_path / "in", output_format="nifti")
        (done,) = run(tmp_path / "in", output_format="nifti", ct_input="hu")

        assert (refused.status, done.status) == ("failed", "done")
        record = json.loads((tmp_path / "out" / f"{uid}_seg.json").read_text())
        assert (record["unit"], record["unit_origin"]) == ("HU", "user")
        assert record["settings"]["ct_input"] == "hu"
        assert any("Rescale Type says US" in warning for warning in record["warnings"])

    def test_a_series_comes_out_on_its_own_grid(self, tmp_path: Path, run: Run) -> None:
        uid = write_series(tmp_path / "in/study", [10.0, 12.5, 15.0])

        (result,) = run(tmp_path / "in", output_format="nifti")

        assert result.status == "done", result
        mask = nib.load(tmp_path / "out/study" / f"{uid}_seg.nii.gz")
        spacing = examples.ct.PixelSpacing
        assert mask.shape == (128, 128, 3)
        # LPS to RAS: columns run to patient left, which is negative there.
        expected = [[-spacing[1], 0, 0, 100.5], [0, -spacing[0], 0, -20], [0, 0, 2.5, 10]]
        np.testing.assert_allclose(mask.affine[:3], expected, rtol=1e-6)

    def test_dicom_seg_and_nifti_hold_the_same_mask(self, tmp_path: Path, run: Run) -> None:
        uid = write_series(tmp_path / "in", [10.0, 12.5, 15.0])

        (result,) = run(
            tmp_path / "in",
            output_format="dicom-seg,nifti",
            targets=["liver"],
            write_empty=True,
        )

        assert result.status == "done", result
        labelmap = nib.load(tmp_path / "out" / f"{uid}_seg.nii.gz").get_fdata()
        segmentation = hd.seg.segread(tmp_path / "out" / f"{uid}_seg.dcm")
        files = {float(dcmread(p).ImagePositionPatient[2]): p for p in (tmp_path / "in").iterdir()}
        found = segmentation.get_pixels_by_source_instance(
            [dcmread(files[z]).SOPInstanceUID for z in (10.0, 12.5, 15.0)],
            assert_missing_frames_are_empty=True,
            ignore_spatial_locations=True,
        )
        np.testing.assert_array_equal(found[..., 0].transpose(2, 1, 0), labelmap == 1)

    def test_dicom_gets_dicom_seg_unless_it_is_empty(self, tmp_path: Path, run: Run) -> None:
        uid = write_series(tmp_path / "in", [0.0, 1.0])

        (result,) = run(tmp_path / "in", probabilities=True)

        assert result.record is not None
        record = json.loads(Path(result.record).read_text())
        assert record["formats"] == ["dicom-seg", "probabilities"]
        assert set(record["settings"]) >= {"seg_type", "fixed_uids", "write_empty"}
        names = file_names(record)
        assert record["empty"] == (f"{uid}_seg.dcm" not in names)
        assert record["empty"] == all(t["confidence"] is None for t in record["targets"])
        assert all(Path(result.record).with_name(name).exists() for name in names)

    def test_the_modality_is_dicom_s_where_the_user_says_none(
        self, tmp_path: Path, run: Run
    ) -> None:
        write_series(tmp_path / "in", [0.0, 1.0])

        (result,) = run(tmp_path / "in")

        assert result.record is not None
        record = json.loads(Path(result.record).read_text())
        assert (record["modality"], record["modality_origin"]) == ("ct", "dicom")
        assert (record["source"]["path"], record["source"]["files"]) == (".", 2)
        assert str(tmp_path) not in Path(result.record).read_text()

    def test_a_conflict_fails_and_names_both(self, tmp_path: Path, run: Run) -> None:
        write_series(tmp_path / "in", [0.0])
        (file,) = (tmp_path / "in").iterdir()

        (result,) = run(file, modality="mri")

        assert result.code == "E_MODALITY_CONFLICT"
        assert "mri" in result.message
        assert "'CT' (ct)" in result.message

    def test_force_modality_settles_a_conflict_and_is_recorded(
        self, tmp_path: Path, run: Run
    ) -> None:
        write_series(tmp_path / "in", [0.0, 1.0])

        (result,) = run(tmp_path / "in", modality="mri", force_modality=True)

        assert result.record is not None
        record = json.loads(Path(result.record).read_text())
        assert (record["modality"], record["modality_origin"]) == ("mri", "forced")

    def test_slices_of_a_series_each_are_joined_and_it_is_recorded(
        self, tmp_path: Path, run: Run
    ) -> None:
        for number in range(3):
            write_series(tmp_path / str(number), [float(number)], StudyInstanceUID="1.2.3.4")

        (result,) = run(tmp_path, join=["series"], exclude="out/*")
        (kept,) = run(tmp_path, join=["series"], exclude="out/*")

        assert (result.status, kept.status) == ("done", "kept"), result.message
        assert result.record is not None
        record = json.loads(Path(result.record).read_text())
        assert record["joined"] == ["series"]
        assert record["spatial_shape"][2] == record["source"]["files"] == 3
        assert "`join` includes series" in record["warnings"][0]

    def test_every_series_of_a_folder_is_done_or_one_chosen(self, tmp_path: Path, run: Run) -> None:
        first = write_series(tmp_path / "in", [0.0, 1.0])
        (tmp_path / "more").mkdir()
        second = write_series(tmp_path / "more", [0.0, 1.0, 2.0])
        for path in (tmp_path / "more").iterdir():
            path.rename(tmp_path / "in" / f"second{path.name}")

        (chosen,) = run(tmp_path / "in", series=second)
        results = run(tmp_path / "in")

        assert chosen.status == "done"
        assert {r.status for r in results} == {"done", "kept"}
        assert {Path(str(r.record)).name for r in results} == {
            f"{first}_seg.json", f"{second}_seg.json",
        }  # fmt: skip

    def test_headers_of_a_folder_are_not_read_again_for_each_volume(
        self, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(4):
            write_series(tmp_path / str(number), [0.0, 1.0])
            for path in (tmp_path / str(number)).iterdir():
                (tmp_path / "in").mkdir(exist_ok=True)
                path.rename(tmp_path / "in" / f"{number}{path.name}")
        looks: list[str] = []
        read_header = scan.read_header

        def counted(path: Path) -> object:
            looks.append(str(path))
            return read_header(path)

        monkeypatch.setattr(scan, "read_header", counted)

        results = run(tmp_path / "in")

        assert [result.status for result in results] == ["done"] * 4
        assert len(looks) <= 8  # once each

    def test_echoes_of_one_series_are_each_done(self, tmp_path: Path, run: Run) -> None:
        uid = write_series(tmp_path / "in", [0.0, 1.0], EchoNumbers=1)
        write_series(tmp_path / "more", [0.0, 1.0], uid, EchoNumbers=2)
        for path in (tmp_path / "more").iterdir():
            path.rename(tmp_path / "in" / f"second{path.name}")

        results = run(tmp_path / "in")

        assert [Path(str(r.record)).name for r in results] == [
            f"{uid}_EchoNumbers-1_seg.json", f"{uid}_EchoNumbers-2_seg.json",
        ]  # fmt: skip

    def test_a_slice_more_makes_another_input(self, tmp_path: Path, run: Run) -> None:
        uid = write_series(tmp_path / "in", [0.0, 1.0])
        run(tmp_path / "in")
        for path in (tmp_path / "in").iterdir():
            path.unlink()
        write_series(tmp_path / "in", [0.0, 1.0, 2.0], uid)

        (result,) = run(tmp_path / "in")

        assert result.code == "E_EXISTS"

    def test_a_gap_is_refused_for_nifti_before_anything_is_computed(
        self, tmp_path: Path, run: Run
    ) -> None:
        write_series(tmp_path / "in", [0.0, 1.0, 2.0, 5.0])

        (result,) = run(tmp_path / "in", output_format="dicom-seg,nifti")

        assert result.code == "E_GEOMETRY"
        assert "not evenly stacked" in result.message
        assert not (tmp_path / "out").exists()

    def test_a_gap_is_no_obstacle_to_dicom_seg(self, tmp_path: Path, run: Run) -> None:
        uid = write_series(tmp_path / "in", [0.0, 1.0, 2.0, 5.0])

        (result,) = run(tmp_path / "in", write_empty=True)

        assert result.status == "done", result
        assert (tmp_path / "out" / f"{uid}_seg.dcm").exists()

    def test_one_slice_and_one_picture_are_taken_alone(self, tmp_path: Path, run: Run) -> None:
        slice_, picture = examples.get_path("mr"), examples.get_path("rgb_color")

        (volume,) = run(slice_, modality="mri", write_empty=True)
        (photograph,) = run(
            picture, modality="ultrasound", targets=["breast_lesion"], output_format="png"
        )

        assert volume.status == photograph.status == "done"
        assert any("SliceThickness" in warning for warning in volume.warnings)
        names = sorted(path.name for path in (tmp_path / "out").glob("*_seg.*"))
        assert names == sorted(
            f"{uid}_seg{ending}"
            for uid, endings in (
                (dcmread(slice_).SeriesInstanceUID, (".dcm", ".json")),
                (dcmread(picture).SOPInstanceUID, (".json", ".png")),
            )
            for ending in endings
        )

    def test_pictures_beside_dicom_need_the_user_s_word(self, tmp_path: Path, run: Run) -> None:
        write_series(tmp_path / "in", [0.0, 1.0])
        (tmp_path / "in/a.png").write_bytes(b"x")

        done, failed = sorted(run(tmp_path / "in"), key=lambda result: result.status)

        assert done.status == "done"
        assert failed.code == "E_MODALITY"

    def test_folders_without_an_image_are_told_at_once(self, tmp_path: Path, run: Run) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in/notes.txt").write_text("x")

        assert refusal(lambda: run(tmp_path / "in")).startswith(EmptyInputError.code)

    def test_pictures_without_a_modality_are_told_at_once(self, tmp_path: Path, run: Run) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in/a.png").write_bytes(b"x")

        assert refusal(lambda: run(tmp_path / "in")).startswith(ModalityError.code)

    def test_what_cannot_be_read_fails_alone(self, tmp_path: Path, run: Run) -> None:
        write_series(tmp_path / "in/good", [0.0, 1.0])
        uid = write_series(tmp_path / "in/bad", [0.0, 1.0, 1.0])

        bad, good = sorted(run(tmp_path / "in"), key=lambda result: result.path)

        assert good.status == "done"
        assert bad.code is not None
        assert uid in bad.path


def test_no_patient_s_name_gets_into_a_result(tmp_path: Path, run: Run) -> None:
    names: dict[str, Any] = {"PatientName": "Canary^Jane", "PatientID": "canary-17"}
    write_series(tmp_path / "in", [0.0, 1.0, 1.0], **names)
    write_series(tmp_path / "good", [0.0, 1.0], **names)

    said = repr(run(tmp_path / "in")) + repr(run(tmp_path / "good"))

    for path in (tmp_path / "out").rglob("*.json"):
        said += path.read_text()
    assert "canary" not in said.lower()
    for path in (tmp_path / "out").rglob("*"):
        assert "canary" not in path.name.lower()
