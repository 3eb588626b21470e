from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import InputNotFoundError, OutputExistsError
from esp_medsam.grid import Grid
from esp_medsam.identity import identify
from esp_medsam.image import Image, Segmentation, SourceInstance
from esp_medsam.io.output_path import record_path
from esp_medsam.io.record import file_names, is_done, read_record, record_of, write_own_json
from tests.support.dicom_seg import SEG_TARGETS
from tests.support.records import RECIPE


@pytest.fixture
def stem(tmp_path: Path, source: Path) -> Path:
    """A result that is done."""
    stem = tmp_path / "out" / "sub" / "in_seg"
    stem.parent.mkdir(parents=True)
    stem.with_name("in_seg.nii.gz").write_bytes(b"mask")
    image = Image(
        path=str(source),
        name="in",
        modality="ct",
        grid=Grid(shape=(1,)),
        identity=identify([source]),
    )
    found = Segmentation(targets=("liver",), confidence=(None,))
    files = [stem.with_name("in_seg.nii.gz")]
    content = record_of(RECIPE, image, found, SEG_TARGETS[:1], empty=True, files=files)
    write_own_json(record_path(stem), content, None)
    return stem


def later(path: Path) -> None:
    """Make a file look as if it had just been written."""
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


class TestIsDone:
    def test_is_so_where_all_agrees(self, stem: Path, source: Path) -> None:
        assert is_done(stem, RECIPE, [source])
        assert is_done(stem, RECIPE, [source], verify=True)

    def test_is_not_so_of_a_schema_to_come(self, stem: Path, source: Path) -> None:
        record = json.loads(record_path(stem).read_text(encoding="utf-8"))
        record_path(stem).write_text(json.dumps({**record, "schema": 99}), encoding="utf-8")

        with pytest.raises(OutputExistsError, match="schema 99"):
            is_done(stem, RECIPE, [source])

    def test_is_not_so_without_a_record(self, tmp_path: Path, source: Path) -> None:
        assert not is_done(tmp_path / "none_seg", RECIPE, [source])

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

        with pytest.raises(OutputExistsError, match=f"made with {found}.*`overwrite`"):
            is_done(stem, recipe, [source])

    def test_a_setting_that_an_older_record_lacks_is_no_difference(
        self, stem: Path, source: Path
    ) -> None:
        recipe = dataclasses.replace(RECIPE, settings={**RECIPE.settings, "new": 1})

        assert is_done(stem, recipe, [source])

    @pytest.mark.parametrize(
        ("setting", "off", "on"),
        [
            ("flips", False, True),
            ("slice_smoothing", 0.0, 2.0),
            ("threshold", {}, {"liver": 0.3}),
        ],
    )
    def test_what_an_older_version_could_not_do_it_did_not(
        self, stem: Path, source: Path, setting: str, off: object, on: object
    ) -> None:
        without, with_it = (
            dataclasses.replace(RECIPE, settings={**RECIPE.settings, setting: value})
            for value in (off, on)
        )

        assert is_done(stem, without, [source])
        with pytest.raises(OutputExistsError, match=f"made with {setting} {off}"):
            is_done(stem, with_it, [source])


class TestTargetsOfARecord:
    def test_whose_other_targets_are_cleaned_up_will_do_too(self, stem: Path, source: Path) -> None:
        path = record_path(stem)
        record = json.loads(path.read_text())
        record["targets"].append({"name": "spleen", "label": 9, "confidence": None})
        record["settings"]["clean_up"] = {"spleen": {"fill_holes": True}}
        path.write_text(json.dumps(record))
        recipe = dataclasses.replace(RECIPE, settings={**RECIPE.settings, "clean_up": {}})

        assert is_done(stem, dataclasses.replace(recipe, or_more=True), [source])
        record["settings"]["clean_up"] = "of another's making"
        path.write_text(json.dumps(record))
        with pytest.raises(OutputExistsError, match="made with clean_up of another's making"):
            is_done(stem, dataclasses.replace(recipe, or_more=True), [source])

    def test_that_has_more_will_do_where_none_were_named(self, stem: Path, source: Path) -> None:
        path = record_path(stem)
        record = json.loads(path.read_text())
        record["targets"].append({"name": "spleen", "label": 9, "confidence": None})
        path.write_text(json.dumps(record))

        assert is_done(stem, dataclasses.replace(RECIPE, or_more=True), [source])
        with pytest.raises(OutputExistsError, match=r"in_seg\.json must .* targets \["):
            is_done(stem, RECIPE, [source])

    def test_that_has_fewer_will_not_do(self, stem: Path, source: Path) -> None:
        recipe = dataclasses.replace(RECIPE, targets=("liver", "spleen"), or_more=True)

        with pytest.raises(OutputExistsError, match=r"in_seg\.json must .* targets \["):
            is_done(stem, recipe, [source])


class TestOutputsOfARecord:
    @pytest.mark.parametrize("content", [None, b""])
    def test_that_are_missing_or_empty_are_made_again(
        self, stem: Path, source: Path, content: bytes | None
    ) -> None:
        mask = stem.with_name("in_seg.nii.gz")
        mask.unlink()
        if content is not None:
            mask.write_bytes(content)

        assert not is_done(stem, RECIPE, [source])

    def test_that_were_copied_are_whole(self, stem: Path, source: Path) -> None:
        later(stem.with_name("in_seg.nii.gz"))

        assert is_done(stem, RECIPE, [source])

    @pytest.mark.parametrize("content", [b"mas", b"mask and more", b"MASK"])
    def test_that_were_changed_are_never_replaced_without_a_word(
        self, stem: Path, source: Path, content: bytes
    ) -> None:
        mask = stem.with_name("in_seg.nii.gz")
        mask.write_bytes(content)
        later(mask)

        with pytest.raises(OutputExistsError, match=r"in_seg\.nii\.gz must"):
            is_done(stem, RECIPE, [source])

    def test_whose_bits_flipped_are_found_where_they_are_verified(
        self, stem: Path, source: Path
    ) -> None:
        mask = stem.with_name("in_seg.nii.gz")
        status = mask.stat()
        mask.write_bytes(b"MASK")
        os.utime(mask, ns=(status.st_atime_ns, status.st_mtime_ns))

        assert is_done(stem, RECIPE, [source])
        with pytest.raises(OutputExistsError, match=r"in_seg\.nii\.gz must"):
            is_done(stem, RECIPE, [source], verify=True)

    @pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
    def test_that_are_no_files_are_made_again(self, stem: Path, source: Path, make: Any) -> None:
        stem.with_name("in_seg.nii.gz").unlink()
        make(stem.with_name("in_seg.nii.gz"))

        assert not is_done(stem, RECIPE, [source])


class TestInputOfARecord:
    def test_that_was_moved_is_still_the_same(
        self, stem: Path, source: Path, tmp_path: Path
    ) -> None:
        moved = tmp_path / "moved.nii"
        source.rename(moved)

        assert is_done(stem, RECIPE, [moved])

    def test_that_was_copied_is_still_the_same(self, stem: Path, source: Path) -> None:
        later(source)

        assert is_done(stem, RECIPE, [source])

    @pytest.mark.parametrize("content", [b"another image", b"IMAGE"])
    def test_that_is_another_one_is_not_taken_for_done(
        self, stem: Path, source: Path, content: bytes
    ) -> None:
        source.write_bytes(content)
        later(source)

        with pytest.raises(OutputExistsError, match=r"in_seg\.json must .*input file"):
            is_done(stem, RECIPE, [source])

    def test_that_hides_its_change_is_found_where_it_is_verified(
        self, stem: Path, source: Path
    ) -> None:
        status = source.stat()
        source.write_bytes(b"IMAGE")
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))

        assert is_done(stem, RECIPE, [source])
        with pytest.raises(OutputExistsError, match=r"in_seg\.json must .*input file"):
            is_done(stem, RECIPE, [source], verify=True)

    def test_that_has_a_file_more_is_not_taken_for_done(
        self, stem: Path, source: Path, tmp_path: Path
    ) -> None:
        empty = tmp_path / "more.dcm"
        empty.touch()
        os.utime(empty, ns=(1, 1))

        with pytest.raises(OutputExistsError, match=r"in_seg\.json must .*input file"):
            is_done(stem, RECIPE, [source, empty])

    def test_that_is_gone_is_said_to_be(self, stem: Path, source: Path) -> None:
        source.unlink()

        with pytest.raises(InputNotFoundError, match=r"in\.nii must be.*file; there is none"):
            is_done(stem, RECIPE, [source])


class TestReadRecord:
    def test_gives_what_was_written(self, stem: Path, source: Path) -> None:
        record = read_record(stem)

        assert record is not None
        assert record["software"] == "esp-medsam 0.1.0"
        assert record["schema"] == 2
        assert record["settings"] == {"size": [448, 448], "path": "x"}
        (target,) = record["targets"]
        assert (target["name"], target["label"], target["confidence"]) == ("liver", 3, None)
        assert record["source"] == {
            "path": "in.nii",
            "files": 1,
            "bytes": 5,
            "modified_ns": source.stat().st_mtime_ns,
            "sha256": hashlib.sha256(b"image").hexdigest(),
        }
        assert record["files"] == [
            {
                "name": "in_seg.nii.gz",
                "bytes": 4,
                "modified_ns": stem.with_name("in_seg.nii.gz").stat().st_mtime_ns,
                "sha256": hashlib.sha256(b"mask").hexdigest(),
            }
        ]
        assert file_names(record) == ["in_seg.nii.gz"]

    @pytest.mark.parametrize(
        "content",
        [
            "", "{", "[]", '{"software": "other"}', "[" * 10**5,
            json.dumps({"software": "esp-medsam 1", "targets": [], "files": ["../../x"]}),
            json.dumps({"software": "esp-medsam 1", "targets": [], "files": ["b_seg.png"]}),
            json.dumps({"software": "esp-medsam 1", "targets": [], "files": ["a_seg.\0"]}),
            json.dumps({"software": "esp-medsam 1", "targets": [], "files": ["a_seg.\ud800"]}),
            json.dumps({"software": "esp-medsam 1", "targets": [], "files": [{"name": "a_seg.x"}]}),
            json.dumps({"software": "esp-medsam 1", "targets": [1], "files": []}),
            json.dumps({"software": "esp-medsam 1", "targets": [], "files": [], "settings": []}),
        ],
    )  # fmt: skip
    def test_refuses_what_is_not_our_record(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "a_seg.json").write_text(content)

        with pytest.raises(OutputExistsError, match=r"a_seg\.json must"):
            read_record(tmp_path / "a_seg")

    def test_does_not_wait_for_a_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a_seg.json")

        with pytest.raises(OutputExistsError, match=r"a_seg\.json must"):
            read_record(tmp_path / "a_seg")


class TestDescribedSource:
    @pytest.mark.parametrize(
        ("path", "relative_dir", "sources", "named"),
        [
            ("/data/in/a.png", "", (), "a.png"),
            ("/data/in/x/y/a.png", "x/y", (), "x/y/a.png"),
            ("/data/in/x", "x", ("/data/in/x/1.dcm", "/data/in/x/2.dcm"), "x"),
            ("/data/in", "", ("/data/in/1.dcm",), "."),
            ("/data/in/1.dcm", "", ("/data/in/1.dcm",), "1.dcm"),
        ],
    )
    def test_names_the_input_from_its_root_on(
        self, path: str, relative_dir: str, sources: tuple[str, ...], named: str
    ) -> None:
        instances = [SourceInstance(path=p, sop_class_uid="", sop_instance_uid="") for p in sources]
        image = Image(
            path=path,
            name="a",
            modality="ct",
            grid=Grid(shape=(1,)),
            relative_dir=relative_dir,
            sources=tuple(instances),
        )

        found = Segmentation(targets=(), confidence=())
        source = record_of(RECIPE, image, found, (), empty=True)["source"]

        assert source["path"] == named
        assert source["sha256"] is None  # it was read from no file
