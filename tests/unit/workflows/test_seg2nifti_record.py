from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esp_medsam.workflows.seg2nifti import Seg2Nifti
from esp_medsam.workflows.segment import SegmentResult


Write = Callable[..., np.ndarray]


def one(source: Path, output: Path, **options: Any) -> SegmentResult:
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
        assert (refused.code, "--overwrite" in refused.message) == ("E_EXISTS", True)
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
        text = json.dumps({"made_by": "esp-medsam", "modality": "ct"})
        (tmp_path / "ct_seg.json").write_text(text, encoding="utf-8")

        result = one(tmp_path / "ct_seg.dcm", tmp_path, overwrite=overwrite)

        assert (result.code, "no record of seg2nifti" in result.message) == ("E_EXISTS", True)
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
