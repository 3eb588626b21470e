"""Records of the first versions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from esp_medsam.errors import OutputExistsError
from esp_medsam.io.output_path import record_path
from esp_medsam.io.record import file_names, is_done, read_record
from tests.support.records import RECIPE


class TestSchema1:
    """What the first released records look like: no hashes, and the path as it was."""

    @pytest.fixture
    def old(self, tmp_path: Path, source: Path) -> Path:
        stem = tmp_path / "out" / "in_seg"
        stem.parent.mkdir()
        stem.with_name("in_seg.nii.gz").write_bytes(b"mask")
        os.utime(source, ns=(1, 1700000000123456789))
        record_path(stem).write_text(
            """{
  "software": "esp-medsam 0.1.0",
  "schema": 1,
  "source": {
    "path": "/data/in.nii",
    "bytes": 5,
    "modified_ns": 1700000000123456789
  },
  "modality": "ct",
  "targets": [
    {
      "name": "liver",
      "label": 1,
      "confidence": 0.9
    }
  ],
  "formats": [
    "nifti"
  ],
  "files": [
    "in_seg.nii.gz"
  ],
  "weights_sha256": "abc",
  "settings": {
    "size": [
      448,
      448
    ],
    "path": "x"
  },
  "empty": false,
  "modality_origin": "user",
  "dicom_modality": null,
  "study_uid": null,
  "series_uid": null,
  "unit": "HU",
  "intensity_range": null,
  "spatial_shape": [
    5,
    6,
    4
  ],
  "warnings": []
}
""",
            encoding="ascii",
        )
        return stem

    @pytest.mark.parametrize("verify", [False, True])
    def test_is_kept_on_what_it_states(self, old: Path, source: Path, verify: bool) -> None:
        assert is_done(old, RECIPE, [source], verify=verify)

        record = read_record(old)
        assert record is not None
        assert file_names(record) == ["in_seg.nii.gz"]

    def test_is_made_again_where_a_file_is_missing(self, old: Path, source: Path) -> None:
        old.with_name("in_seg.nii.gz").unlink()

        assert not is_done(old, RECIPE, [source])

    def test_of_a_changed_input_is_not_taken_for_done(self, old: Path, source: Path) -> None:
        os.utime(source, ns=(1, source.stat().st_mtime_ns + 10**9))

        with pytest.raises(OutputExistsError, match=r"in_seg\.json must .*input file"):
            is_done(old, RECIPE, [source])

    def test_counts_the_files_of_a_series(self, old: Path, source: Path, tmp_path: Path) -> None:
        record = json.loads(record_path(old).read_text())
        record["source"]["files"] = 2
        record_path(old).write_text(json.dumps(record))
        second = tmp_path / "second.dcm"
        second.touch()
        os.utime(second, ns=(1, 1))

        assert is_done(old, RECIPE, [source, second])
