from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import OutputError, OutputExistsError
from esp_medsam.io.record import (
    Recipe,
    Source,
    is_done,
    output_stem,
    read_record,
    record_path,
    write_record,
)


RECIPE = Recipe(
    modality="ct",
    targets=("liver",),
    formats=("nifti",),
    weights_sha256="abc",
    settings={"size": (448, 448), "path": Path("x")},
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.nii"
    path.write_bytes(b"image")
    return path


@pytest.fixture
def stem(tmp_path: Path, source: Path) -> Path:
    """A result that is done."""
    stem = output_stem(tmp_path / "out", "sub", "in")
    write_record(
        stem,
        RECIPE,
        source=Source(source),
        files=["in_seg.nii.gz"],
        targets=[{"name": "liver", "label": 1, "confidence": None}],
        details={"unit": None},
    )
    (stem.parent / "in_seg.nii.gz").touch()
    return stem


class TestOutputStem:
    def test_lies_in_the_input_s_own_folder(self, tmp_path: Path) -> None:
        assert output_stem(tmp_path, "a/b", "n") == tmp_path / "a" / "b" / "n_seg"
        assert record_path(tmp_path / "n.1_seg") == tmp_path / "n.1_seg.json"

    @pytest.mark.parametrize(
        ("folder", "name"), [("..", "n"), ("/etc", "n"), ("", "../n"), ("", ".."), ("a", "")]
    )
    def test_never_lies_outside(self, tmp_path: Path, folder: str, name: str) -> None:
        with pytest.raises(OutputError, match="must lie inside"):
            output_stem(tmp_path, folder, name)


class TestIsDone:
    def test_is_so_where_all_agrees(self, stem: Path, source: Path) -> None:
        assert is_done(stem, RECIPE, Source(source))

    def test_is_not_so_without_a_record(self, tmp_path: Path, source: Path) -> None:
        assert not is_done(tmp_path / "none_seg", RECIPE, Source(source))

    def test_is_not_so_where_a_file_is_missing(self, stem: Path, source: Path) -> None:
        stem.with_name("in_seg.nii.gz").unlink()

        assert not is_done(stem, RECIPE, Source(source))

    @pytest.mark.parametrize(
        ("field", "value", "found"),
        [
            ("modality", "mri", "modality ct"),
            ("targets", ("kidney",), "targets .'liver'."),
            ("formats", ("png",), "formats .'nifti'."),
            ("weights_sha256", None, "weights abc"),
            ("settings", {"size": (224, 224)}, r"size .448, 448."),
        ],
    )
    def test_a_difference_is_named_with_the_way_out(
        self, stem: Path, source: Path, field: str, value: Any, found: str
    ) -> None:
        recipe = dataclasses.replace(RECIPE, **{field: value})

        with pytest.raises(OutputExistsError, match=f"made with {found}.*--overwrite"):
            is_done(stem, recipe, Source(source))

    def test_a_setting_that_an_older_record_lacks_is_no_difference(
        self, stem: Path, source: Path
    ) -> None:
        recipe = dataclasses.replace(RECIPE, settings={**RECIPE.settings, "new": 1})

        assert is_done(stem, recipe, Source(source))

    def test_another_input_of_the_same_name_is_not_taken_for_done(
        self, stem: Path, source: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other" / "in.nii"
        other.parent.mkdir()
        other.write_bytes(b"image")
        os.utime(other, ns=(1, 1))

        with pytest.raises(OutputExistsError, match="another input file"):
            is_done(stem, RECIPE, Source(other))

    @pytest.mark.parametrize("content", [b"another image", b"IMAGE"])
    def test_a_changed_input_is_not_taken_for_done(
        self, stem: Path, source: Path, content: bytes
    ) -> None:
        source.write_bytes(content)
        os.utime(source, ns=(1, 1))

        with pytest.raises(OutputExistsError, match="another input file"):
            is_done(stem, RECIPE, Source(source))

    def test_a_moved_input_is_still_the_same(
        self, stem: Path, source: Path, tmp_path: Path
    ) -> None:
        moved = tmp_path / "moved.nii"
        source.rename(moved)

        assert is_done(stem, RECIPE, Source(moved))

    def test_a_series_with_a_slice_more_is_not_taken_for_done(
        self, stem: Path, source: Path, tmp_path: Path
    ) -> None:
        empty = tmp_path / "more.dcm"
        empty.touch()
        os.utime(empty, ns=(1, 1))

        with pytest.raises(OutputExistsError, match="another input file"):
            is_done(stem, RECIPE, Source(tmp_path, (str(source), str(empty))))


class TestReadRecord:
    def test_gives_what_was_written(self, stem: Path) -> None:
        record = read_record(stem)

        assert record is not None
        assert record["software"] == "esp-medsam 0.1.0"
        assert record["settings"] == {"size": [448, 448], "path": "x"}
        assert record["targets"] == [{"name": "liver", "label": 1, "confidence": None}]

    @pytest.mark.parametrize(
        "content",
        [
            "", "{", "[]", '{"software": "other"}', "[" * 10**5,
            json.dumps({"software": "esp-medsam 1", "targets": [], "files": ["../../x"]}),
            json.dumps({"software": "esp-medsam 1", "targets": [1], "files": []}),
            json.dumps({"software": "esp-medsam 1", "targets": [], "files": [], "settings": []}),
        ],
    )  # fmt: skip
    def test_refuses_what_is_not_our_record(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "a_seg.json").write_text(content)

        with pytest.raises(OutputExistsError, match="it is something else"):
            read_record(tmp_path / "a_seg")
