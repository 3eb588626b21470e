from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esp_medsam.errors import InputNotFoundError, OutputError
from esp_medsam.io.folder import entered
from esp_medsam.io.record_fields import FIELDS, SEG2NIFTI_FIELDS
from esp_medsam.workflows import seg2nifti as module
from esp_medsam.workflows.results import ItemResult
from esp_medsam.workflows.seg2nifti import Seg2Nifti


Write = Callable[..., np.ndarray]


def one(source: Path, output: Path, **options: Any) -> ItemResult:
    (result,) = Seg2Nifti(source, output, **options).results()
    return result


class TestExisting:
    def test_result_that_agrees_is_kept(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")
        before = (tmp_path / "out/seg.nii.gz").stat().st_mtime_ns

        result = one(tmp_path / "seg.dcm", tmp_path / "out")

        assert result.status == "kept"
        assert (tmp_path / "out/seg.nii.gz").stat().st_mtime_ns == before

    def test_result_on_another_grid_differs(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")

        result = one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "ct")

        assert result.code == "E_EXISTS"

    def test_result_that_differs_stays_unless_overwritten(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")

        refused = one(tmp_path / "seg.dcm", tmp_path / "out", split_segments=True)
        assert (refused.code, "`overwrite`" in refused.message) == ("E_EXISTS", True)
        assert "split_segments False" in refused.message
        one(tmp_path / "seg.dcm", tmp_path / "out", split_segments=True, overwrite=True)

        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["seg.json", "seg_segment1.nii.gz", "seg_segment2.nii.gz"]

    def test_file_of_another_is_kept(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("seg.dcm")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/seg.nii.gz").write_bytes(b"mine")

        result = one(tmp_path / "seg.dcm", tmp_path / "out")

        assert result.code == "E_EXISTS"
        assert (tmp_path / "out/seg.nii.gz").read_bytes() == b"mine"

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_record_of_segment_is_never_replaced(
        self, write_seg: Write, tmp_path: Path, overwrite: bool
    ) -> None:
        write_seg("ct_seg.dcm")
        text = json.dumps({"software": "esp-medsam 0.1", "modality": "ct"})
        (tmp_path / "ct_seg.json").write_text(text, encoding="utf-8")

        result = one(tmp_path / "ct_seg.dcm", tmp_path, overwrite=overwrite)

        assert (result.code, "record of seg2nifti" in result.message) == ("E_EXISTS", True)
        assert (tmp_path / "ct_seg.json").read_text(encoding="utf-8") == text
        assert not (tmp_path / "ct_seg.nii.gz").exists()

    def test_record_that_names_files_elsewhere_removes_none(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("seg.dcm")
        result = one(tmp_path / "seg.dcm", tmp_path / "out")
        record = json.loads(Path(str(result.record)).read_text(encoding="utf-8"))
        (tmp_path / "seg.nii.gz").write_bytes(b"mine")
        record["files"] = ["../seg.nii.gz", "other.nii.gz", 3]
        (tmp_path / "out/other.nii.gz").write_bytes(b"mine")
        (tmp_path / "out/seg.json").write_text(json.dumps(record), encoding="utf-8")

        one(tmp_path / "seg.dcm", tmp_path / "out", overwrite=True)

        assert (tmp_path / "seg.nii.gz").read_bytes() == b"mine"
        assert (tmp_path / "out/other.nii.gz").read_bytes() == b"mine"

    def test_file_of_another_segmentation_is_not_removed(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("seg.dcm")
        result = one(tmp_path / "seg.dcm", tmp_path / "out")
        record = json.loads(Path(str(result.record)).read_text(encoding="utf-8"))
        record["files"] = ["seg2.nii.gz", "seg_segment1.nii.gz"]
        for name in record["files"]:
            (tmp_path / "out" / name).write_bytes(b"mask")
        (tmp_path / "out/seg.json").write_text(json.dumps(record), encoding="utf-8")

        one(tmp_path / "seg.dcm", tmp_path / "out", overwrite=True)

        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["seg.json", "seg.nii.gz", "seg2.nii.gz"]

    def test_record_of_schema_1_is_kept(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")
        path = tmp_path / "out/seg.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        del record["schema"]
        record["files"] = ["seg.nii.gz"]
        record["source"] = {"path": "/data/seg.dcm", "sha256": record["source"]["sha256"]}
        path.write_text(json.dumps(record), encoding="utf-8")

        assert one(tmp_path / "seg.dcm", tmp_path / "out").status == "kept"

    def test_record_of_a_schema_to_come_stays_unless_overwritten(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")
        path = tmp_path / "out/seg.json"
        later = {**json.loads(path.read_text(encoding="utf-8")), "schema": 99}
        path.write_text(json.dumps(later), encoding="utf-8")

        refused = one(tmp_path / "seg.dcm", tmp_path / "out")
        replaced = one(tmp_path / "seg.dcm", tmp_path / "out", overwrite=True)

        assert (refused.code, "schema 99" in refused.message) == ("E_EXISTS", True)
        assert replaced.status == "done"

    def test_fields_are_all_documented(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")
        record = json.loads((tmp_path / "out/seg.json").read_text(encoding="utf-8"))

        documented = {name.split(".")[-1] for name in itertools.chain(*FIELDS, *SEG2NIFTI_FIELDS)}
        assert {*record, *record["source"]} <= {*documented, "source", "files"}

    @pytest.mark.parametrize("damage", [b"", None])
    def test_result_that_is_damaged_or_gone_is_made_again(
        self, write_seg: Write, tmp_path: Path, damage: bytes | None
    ) -> None:
        write_seg("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")
        mask = tmp_path / "out/seg.nii.gz"
        whole = mask.read_bytes()
        mask.unlink()
        if damage is not None:
            mask.write_bytes(damage)

        assert one(tmp_path / "seg.dcm", tmp_path / "out").status == "done"
        assert mask.read_bytes() == whole

    def test_result_that_hides_its_damage_is_found_by_verify(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")
        mask = tmp_path / "out/seg.nii.gz"
        status = mask.stat()
        mask.write_bytes(bytes(status.st_size))
        os.utime(mask, ns=(1, status.st_mtime_ns))

        assert one(tmp_path / "seg.dcm", tmp_path / "out").status == "kept"
        result = one(tmp_path / "seg.dcm", tmp_path / "out", verify=True)
        assert (result.status, result.code) == ("failed", "E_EXISTS")

    def test_f1_what_a_killed_run_left_is_replaced_without_overwrite(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out")
        (tmp_path / "out/seg.json").unlink()  # it comes last
        (tmp_path / "out/.esp-medsam-1234.tmp").touch()

        assert one(tmp_path / "seg.dcm", tmp_path / "out").status == "done"
        names = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert names == ["seg.json", "seg.nii.gz"]


class TestRecord:
    def test_holds_no_path_of_this_machine(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("in/a/seg.dcm")

        result = one(tmp_path / "in", tmp_path / "out", like=tmp_path / "ct")

        text = Path(str(result.record)).read_text(encoding="utf-8")
        record = json.loads(text)
        assert str(tmp_path) not in text
        assert (record["source"]["path"], record["like"]) == ("a/seg.dcm", "ct")

    def test_names_a_file_that_was_given_by_its_name(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("in/seg.dcm")

        result = one(tmp_path / "in/seg.dcm", tmp_path / "out")

        record = json.loads(Path(str(result.record)).read_text(encoding="utf-8"))
        content = (tmp_path / "in/seg.dcm").read_bytes()
        assert (record["source"]["path"], record["schema"]) == ("seg.dcm", 2)
        assert record["source"]["bytes"] == len(content)
        assert record["source"]["sha256"] == hashlib.sha256(content).hexdigest()

    def test_f16_of_a_file_that_changes_while_it_is_read_is_not_written(
        self, write_seg: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_seg("seg.dcm")
        read = module.read_segmentation

        def read_and_change(path: Path) -> Any:
            segmentation = read(path)
            write_seg("seg.dcm", "labelmap")
            return segmentation

        monkeypatch.setattr(module, "read_segmentation", read_and_change)

        assert one(tmp_path / "seg.dcm", tmp_path / "out").code == "E_INPUT_CHANGED"
        assert not (tmp_path / "out").exists()


class TestPlaces:
    @pytest.mark.parametrize("other", ["seg.json", "seg.nii.gz", "seg_segment1.nii.gz"])
    def test_c4_output_never_replaces_an_input(
        self, write_seg: Write, tmp_path: Path, other: str
    ) -> None:
        write_seg("in/seg.dcm")
        write_seg(f"in/{other}")
        write_seg("in/b.dcm")
        theirs = (tmp_path / "in" / other).read_bytes()

        results = Seg2Nifti(tmp_path / "in", tmp_path / "in", overwrite=True).results()
        codes = {Path(result.path).name: result.code for result in results}

        assert codes == {"seg.dcm": "E_OUTPUT", other: None, "b.dcm": None}
        assert (tmp_path / "in" / other).read_bytes() == theirs

    def test_c4_output_never_replaces_the_image_of_its_grid(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("seg.dcm")
        one(tmp_path / "seg.dcm", tmp_path / "out", like=tmp_path / "ct")
        like = (tmp_path / "out/seg.nii.gz").rename(tmp_path / "seg.nii.gz")
        before = like.read_bytes()

        result = one(tmp_path / "seg.dcm", tmp_path, like=like, overwrite=True)

        assert result.code == "E_OUTPUT"
        assert str(like) in result.message
        assert like.read_bytes() == before

    def test_s5_folder_that_is_a_link_is_refused(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg("in/a/seg.dcm")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/a").symlink_to(tmp_path / "ct")

        result = one(tmp_path / "in", tmp_path / "out", overwrite=True)

        assert "out/a must be a real folder; it is a link" in result.message
        assert len(list((tmp_path / "ct").iterdir())) == 5

    def test_name_that_is_too_long_is_told_as_such(self, write_seg: Write, tmp_path: Path) -> None:
        write_seg(f"{'n' * 250}.dcm")

        result = one(tmp_path / f"{'n' * 250}.dcm", tmp_path / "out")

        assert (result.code, "at most 255 bytes" in result.message) == ("E_OUTPUT", True)

    def test_input_whose_name_is_too_long_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputNotFoundError, match="IN must be an existing file or folder"):
            Seg2Nifti(tmp_path / ("n" * 300), tmp_path / "out")

    def test_file_that_is_no_dicom_is_of_another_format(self, tmp_path: Path) -> None:
        (tmp_path / "seg.nii").write_bytes(b"no DICOM" * 40)

        result = one(tmp_path / "seg.nii", tmp_path / "out")

        assert (result.code, "seg.nii is not a DICOM file" in result.message) == ("E_FORMAT", True)

    def test_pipe_is_refused_at_once(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "seg.dcm")

        assert one(tmp_path / "seg.dcm", tmp_path / "out").code == "E_READ"

    def test_finds_what_lies_deeper_than_python_recurses(
        self, write_seg: Write, tmp_path: Path, deep: Path
    ) -> None:
        write_seg("in/seg.dcm")
        with entered(deep):
            (tmp_path / "in/seg.dcm").rename(deep / "seg.dcm")

        conversion = Seg2Nifti(tmp_path / "deep", tmp_path / "out")

        assert len(conversion) == 1


class TestRun:
    def test_f14_second_run_to_the_same_folder_is_refused(
        self, write_seg: Write, tmp_path: Path
    ) -> None:
        write_seg("in/a.dcm")
        write_seg("in/b.dcm")
        first = Seg2Nifti(tmp_path / "in", tmp_path / "out").results()
        next(first)

        with pytest.raises(OutputError, match="out must be written by one run at a time"):
            one(tmp_path / "in/a.dcm", tmp_path / "out")

        assert [result.status for result in first] == ["done"]

    def test_f3_full_disk_ends_it_and_says_what_was_not_tried(
        self, write_seg: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in "abc":
            write_seg(f"in/{name}.dcm")

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        conversion = Seg2Nifti(tmp_path / "in", tmp_path / "out")

        results = list(conversion.results())

        assert [result.code for result in results] == ["E_DISK_FULL"]
        assert len(conversion) == 3
        assert not (tmp_path / "out").exists()
