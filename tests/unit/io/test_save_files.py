"""What the saver does with files of others, and with inputs that change."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esp_medsam.errors import (
    DiskFullError,
    InputChangedError,
    InputNotFoundError,
    OutputError,
    OutputExistsError,
)
from esp_medsam.io import SaveSegmentationd, file_names, read_record
from tests.support.results import is_done


Result = Callable[..., dict[str, Any]]
Saver = Callable[..., SaveSegmentationd]
Names = Callable[[], list[str]]


class TestInput:
    def test_f16_that_changed_since_it_was_read_gives_no_output(
        self, saver: Saver, result: Result, scan: Path, names: Names, tmp_path: Path
    ) -> None:
        (tmp_path / "out").mkdir()
        data = result(scan)
        scan.write_bytes(scan.read_bytes()[:-1] + b"x")

        with pytest.raises(InputChangedError, match=r"scan\.nii\.gz must not change"):
            saver()(data)

        assert names() == []

    def test_f16_that_is_gone_gives_no_output(
        self, saver: Saver, result: Result, scan: Path, names: Names, tmp_path: Path
    ) -> None:
        (tmp_path / "out").mkdir()
        data = result(scan)
        scan.unlink()

        with pytest.raises(InputNotFoundError, match="there is none"):
            saver()(data)

        assert names() == []

    def test_f16_that_changed_leaves_an_earlier_result_as_it_is(
        self, saver: Saver, result: Result, scan: Path, names: Names, tmp_path: Path
    ) -> None:
        saver()(result(scan))
        before = (tmp_path / "out/scan_seg.json").read_bytes()
        data = result(scan)
        scan.write_bytes(scan.read_bytes()[:-1] + b"x")

        with pytest.raises(InputChangedError, match="must not change"):
            saver(overwrite=True)(data)

        assert (tmp_path / "out/scan_seg.json").read_bytes() == before
        assert names() == ["scan_seg.json", "scan_seg.nii.gz"]

    def test_is_stated_as_it_was_before_it_was_read(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        status = scan.stat()
        data = result(scan)
        os.utime(scan, ns=(1, status.st_mtime_ns + 10**9))

        saver()(data)

        record = read_record(tmp_path / "out/scan_seg")
        assert record is not None
        assert record["source"] == {
            "path": "scan.nii.gz",
            "files": 1,
            "bytes": status.st_size,
            "modified_ns": status.st_mtime_ns,
            "sha256": hashlib.sha256(scan.read_bytes()).hexdigest(),
        }

    def test_c4_is_never_replaced_by_its_own_output(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out").mkdir()
        place = scan.rename(tmp_path / "out/scan_seg.nii.gz")
        content = place.read_bytes()

        with pytest.raises(OutputError, match=r"scan_seg\.nii\.gz is the input"):
            saver(overwrite=True)(result(place, name="scan"))

        assert place.read_bytes() == content


class TestRecordedFiles:
    def test_are_listed_as_they_are(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        saver(split_targets=True, preview=True)(result(scan))

        record = json.loads((tmp_path / "out/scan_seg.json").read_text())
        assert file_names(record) == [
            *("scan_seg.nii.gz", "scan_seg_kidney.nii.gz", "scan_seg_kidney_tumor.nii.gz"),
            "scan_seg_preview.png",
        ]
        for file in record["files"]:
            path = tmp_path / "out" / file["name"]
            assert file["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            assert file["bytes"] == path.stat().st_size
            assert file["modified_ns"] == path.stat().st_mtime_ns

    def test_that_were_changed_stay_without_overwrite(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        saver()(result(scan))
        mask = tmp_path / "out/scan_seg.nii.gz"
        whole = mask.read_bytes()
        mask.write_bytes(b"corrected by hand")

        for attempt in (lambda: is_done(saver(), scan), lambda: saver()(result(scan))):
            with pytest.raises(OutputExistsError, match="changed since, or damaged"):
                attempt()
        assert mask.read_bytes() == b"corrected by hand"

        saver(overwrite=True)(result(scan))

        assert mask.read_bytes() == whole

    def test_that_hide_their_damage_are_found_by_verify(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        saver()(result(scan))
        mask = tmp_path / "out/scan_seg.nii.gz"
        status = mask.stat()
        content = bytearray(mask.read_bytes())
        content[-1] ^= 1
        mask.write_bytes(content)
        os.utime(mask, ns=(1, status.st_mtime_ns))

        assert is_done(saver(), scan)
        with pytest.raises(OutputExistsError, match="changed since, or damaged"):
            is_done(saver(verify=True), scan)

    def test_of_a_preview_that_is_gone_are_made_again(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        saver(preview=True)(result(scan))
        (tmp_path / "out/scan_seg_preview.png").unlink()

        assert not is_done(saver(), scan)

    def test_hold_no_path_of_this_machine(
        self, saver: Saver, result: Result, scan: Path, tmp_path: Path
    ) -> None:
        saver(preview=True)(result(scan, relative_dir="a"))

        assert str(tmp_path) not in (tmp_path / "out/a/scan_seg.json").read_text()


class TestInTheWay:
    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        (tmp_path / "outside").mkdir()
        (tmp_path / "out").mkdir()
        return tmp_path / "outside"

    def test_s5_a_folder_that_is_a_link_is_refused_before_and_when_it_is_written(
        self, saver: Saver, result: Result, scan: Path, outside: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out/sub").symlink_to(outside)

        with pytest.raises(OutputError, match="out/sub must be a real folder"):
            is_done(saver(), scan, relative_dir="sub")
        with pytest.raises(OutputError, match="out/sub must be a real folder"):
            saver(overwrite=True)(result(scan, relative_dir="sub"))

        assert not list(outside.iterdir())

    def test_s5_the_output_folder_itself_may_be_a_link(
        self, saver: Saver, result: Result, scan: Path, outside: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out").rmdir()
        (tmp_path / "out").symlink_to(outside)

        saver()(result(scan, relative_dir="sub"))

        assert (outside / "sub/scan_seg.json").is_file()

    @pytest.mark.parametrize("name", ["scan_seg.nii.gz", "scan_seg.json", "scan_seg_preview.png"])
    def test_s5_a_link_is_replaced_itself_and_only_where_asked(
        self,
        saver: Saver,
        result: Result,
        scan: Path,
        outside: Path,
        tmp_path: Path,
        name: str,
    ) -> None:
        (outside / "theirs").write_bytes(b"theirs")
        (tmp_path / "out" / name).symlink_to(outside / "theirs")

        with pytest.raises(OutputExistsError, match=r"[Mm]ove it away"):
            saver(preview=True)(result(scan))
        saver(preview=True, overwrite=True)(result(scan))

        assert (outside / "theirs").read_bytes() == b"theirs"
        assert not (tmp_path / "out" / name).is_symlink()

    def test_a_link_to_nothing_is_in_the_way_as_well(
        self, saver: Saver, result: Result, scan: Path, outside: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out/scan_seg.nii.gz").symlink_to(outside / "none")

        with pytest.raises(OutputExistsError, match=r"[Mm]ove it away"):
            saver()(result(scan))

        assert not list(outside.iterdir())

    @pytest.mark.parametrize("name", ["scan_seg.nii.gz", "scan_seg.json", "scan_seg_preview.png"])
    def test_a_pipe_is_refused_at_once_and_replaced_where_asked(
        self, saver: Saver, result: Result, scan: Path, outside: Path, tmp_path: Path, name: str
    ) -> None:
        os.mkfifo(tmp_path / "out" / name)

        with pytest.raises(OutputExistsError, match=r"[Mm]ove it away"):
            saver(preview=True)(result(scan))
        saver(preview=True, overwrite=True)(result(scan))

        assert (tmp_path / "out" / name).is_file()

    @pytest.mark.parametrize(
        ("option", "ending"),
        [
            ({}, "_seg.nii.gz"),
            ({"split_targets": True}, "_seg_kidney_tumor.nii.gz"),
            ({"preview": True}, "_seg_preview.png"),
        ],
    )
    def test_a_name_that_is_too_long_is_told_before_anything_is_made(
        self,
        saver: Saver,
        result: Result,
        scan: Path,
        tmp_path: Path,
        option: dict[str, bool],
        ending: str,
    ) -> None:
        name = "n" * (255 - len(ending))
        told = rf"must have at most 255 bytes; .*{ending} has 256\. Shorten the input's name"

        assert not is_done(saver(**option), scan, name=name)
        with pytest.raises(OutputError, match=told):
            is_done(saver(**option), scan, name=name + "n")
        with pytest.raises(OutputError, match=told):
            saver(**option)(result(scan, name=name + "n"))

        assert not (tmp_path / "out").exists()


class TestFailure:
    def test_f3_leaves_none_of_several_files(
        self,
        saver: Saver,
        result: Result,
        scan: Path,
        names: Names,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(*args: object, **options: object) -> None:
            msg = "full"
            raise DiskFullError(msg)

        saver()(result(scan))
        monkeypatch.setattr("esp_medsam.io.result_writer.write_preview", fail)

        with pytest.raises(DiskFullError, match="full"):
            saver(preview=True, split_targets=True, overwrite=True)(result(scan))

        assert names() == []
